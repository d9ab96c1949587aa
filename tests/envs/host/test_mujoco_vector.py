"""MuJoCo's environments in threads are Gymnasium's own, number by number."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlgd.envs import make
from rlgd.envs.host import mujoco_vector
from rlgd.envs.host.host_env import HostEnv
from rlgd.envs.host.mujoco_tasks import TASKS
from rlgd.envs.host.mujoco_vector import MujocoVector
from rlgd.errors import UsageError

pytest.importorskip("mujoco")
pytestmark = pytest.mark.filterwarnings("ignore")
N = 3
PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    **{env_id: (env_id, {}) for env_id in TASKS},
    "a cheetah that sees where it is": (
        "HalfCheetah-v5",
        {"exclude_current_positions_from_observation": False, "ctrl_cost_weight": 0.3, "frame_skip": 2},
    ),
    "a hopper that may lie": ("Hopper-v5", {"terminate_when_unhealthy": False, "healthy_reward": 2.0}),
    "an ant without forces": ("Ant-v5", {"include_cfrc_ext_in_observation": False, "healthy_z_range": (0.5, 0.9)}),
    "a humanoid that sees little": (
        "Humanoid-v5",
        {"include_cinert_in_observation": False, "include_qfrc_actuator_in_observation": False},
    ),
}


def assert_same(ours: Any, theirs: Any) -> None:
    """Arrays, dictionaries and arrays of arrays, with the same dtypes and to the last bit."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert_same(ours[name], theirs[name])
    elif theirs.dtype == object:
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert_same(one, other)
    else:
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
@pytest.mark.parametrize("name", PAIRS)
def test_every_number_is_gymnasiums(name: str, mode: AutoresetMode) -> None:
    env_id, kwargs = PAIRS[name]
    ours = MujocoVector(env_id, N, mode, max_episode_steps=25, **kwargs)
    theirs = SyncVectorEnv([lambda: gymnasium.make(env_id, max_episode_steps=25, **kwargs)] * N, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    ours._decide(1.0)  # as where the physics take long
    assert_same(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    ours.action_space.seed(0)
    ends = 0
    for _ in range(60):
        action = ours.action_space.sample()
        one, other = ours.step(action), theirs.step(action)
        for mine, original in zip(one, other, strict=True):
            assert_same(mine, original)
        done = one[2] | one[3]
        ends += int(done.sum())
        if mode is AutoresetMode.DISABLED and done.any():
            again = [env.reset(options={"reset_mask": done.copy()}) for env in (ours, theirs)]
            for mine, original in zip(*again, strict=True):
                assert_same(mine, original)
    assert ends >= 2 * N
    ours.close()
    theirs.close()


@pytest.mark.parametrize(("alone", "divided", "several"), [(1.0, 0.5, True), (1.0, 0.95, False), (1e-5, 1e-5, False)])
def test_threads_stay_where_they_are_faster(
    alone: float, divided: float, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mujoco_vector, "num_cores", lambda: 2)
    vector = MujocoVector("HalfCheetah-v5", N)
    vector._decide(alone)
    if not vector._is_decided:
        vector._decide(divided)
    assert vector._is_decided
    assert (len(vector._parts) > 1) == (vector._pool is not None) == several
    assert [n for part in vector._parts for n in part] == list(range(N))
    vector.close()


def test_gymnasium_makes_them_by_rlgds_names() -> None:
    vector = gymnasium.make_vec("rlgd/Hopper-v5", N, "vector_entry_point", max_episode_steps=7)
    assert isinstance(vector.unwrapped, MujocoVector)
    vector.reset(seed=0)
    truncated = [vector.step(vector.action_space.sample())[3].all() for _ in range(7)]
    assert truncated == [False] * 6 + [True]
    vector.close()
    one = gymnasium.make("rlgd/Hopper-v5")
    assert type(one.unwrapped) is type(gymnasium.make("Hopper-v5").unwrapped)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "rlgd/HalfCheetah-v5"])
def test_training_takes_them_of_itself(env_id: str) -> None:
    env = make(env_id, max_episode_steps=5)
    assert isinstance(env, HostEnv)
    assert env.how(2) == "2 environments in threads"
    one_by_one = HostEnv(env_id, max_episode_steps=5, vectorization="sync")
    vectors = [made.open(2) for made in (env, one_by_one)]
    assert isinstance(vectors[0].vector, MujocoVector)
    np.testing.assert_array_equal(*(vector.reset(1) for vector in vectors))
    for _ in range(12):
        action = np.full((2, 6), 0.5, np.float32)
        one, other = (vector.step(action) for vector in vectors)
        np.testing.assert_array_equal(one.obs, other.obs)
        np.testing.assert_allclose(one.reward, other.reward, rtol=1e-6)
        np.testing.assert_array_equal(one.truncated, other.truncated)
        assert one.final_obs.keys() == other.final_obs.keys()
    for vector in vectors:
        vector.close()


def test_what_cannot_be_stepped_in_threads_is_refused() -> None:
    with pytest.raises(UsageError, match="Swimmer-v5 is none of MuJoCo's environments that are stepped in threads"):
        HostEnv("Swimmer-v5", vectorization="threads")
    with pytest.raises(UsageError, match="vectorization 'threads' is for a Gymnasium id"):
        make(lambda: gymnasium.make("Hopper-v5"), vectorization="threads")
    with pytest.raises(UsageError, match="is vectorization 'threads'"):
        HostEnv("rlgd/Hopper-v5", vectorization="native")
    with pytest.raises(UsageError, match="unknown MuJoCo task 'Hoper-v5'; did you mean 'Hopper-v5'"):
        MujocoVector("Hoper-v5", 2)
    vector = MujocoVector("Hopper-v5", 2, AutoresetMode.DISABLED, max_episode_steps=1)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"the actions have the shape \(3,\); expected \(2, 3\)"):
        vector.step(np.zeros(3))
    vector.step(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"environments \[0, 1\] have ended; reset them first"):
        vector.step(np.zeros((2, 3)))
