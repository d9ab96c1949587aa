"""Which environment a ``HostEnv`` is, and how its copies are stepped."""

import contextlib
import copy
import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rlgd.envs
from rlgd.envs import HostEnv
from rlgd.envs.functional import CartPole
from rlgd.envs.host.host_env import VECTORIZATIONS
from rlgd.errors import UsageError
from rlgd.spaces import BoxSpec, DiscreteSpec
from tests.support.faulty_envs import Faulty, Locked

MODES = list(AutoresetMode)


@pytest.mark.parametrize("mode", [None, *MODES])
def test_environments_one_by_one_have_the_autoreset_modes_that_the_native_one_lacks(mode: AutoresetMode | None) -> None:
    vector = HostEnv("CartPole-v1", autoreset_mode=mode).open(2)
    assert vector.mode is (mode or AutoresetMode.NEXT_STEP)
    assert isinstance(vector.vector, gymnasium.vector.SyncVectorEnv) == (mode not in (None, AutoresetMode.NEXT_STEP))
    assert vector.has_reset_rows == (vector.mode is AutoresetMode.NEXT_STEP)
    assert vector.spec.max_episode_steps == 500


def made_with(length: int = 5) -> Faulty:
    return Faulty(length=length)


@pytest.mark.parametrize("source", [Faulty, made_with, lambda **kwargs: Faulty(**kwargs)])
def test_a_class_and_a_function_get_arguments_and_a_time_limit(source: Any) -> None:
    env = HostEnv.of(source, max_episode_steps=3, length=2)
    assert env == HostEnv.of(source, max_episode_steps=3, length=2)
    assert hash(env) == hash(HostEnv.of(source, max_episode_steps=3, length=2))
    assert env != HostEnv.of(source, max_episode_steps=3, length=4)
    assert env.env_id == {"<lambda>": "environment"}.get(source.__name__, source.__name__)
    assert env.spec == dataclasses.replace(HostEnv.of(Faulty).spec, max_episode_steps=3)
    for length, ended in ((2, "terminated"), (4, "truncated")):
        vector = HostEnv.of(source, max_episode_steps=3, length=length).open(2)
        vector.reset(0)
        last = [vector.step(np.array([1, 2])) for _ in range(min(length, 3))][-1]
        assert getattr(last, ended).all()


def test_an_environment_is_copied_for_each_and_stays_as_it_is() -> None:
    mine = gymnasium.make("CartPole-v1")
    mine.reset(seed=0)
    state = copy.deepcopy(mine.unwrapped.__dict__["state"])
    env = HostEnv.of(mine)
    assert (env.env_id, env.spec.max_episode_steps) == ("CartPoleEnv", 500)
    vector = env.open(2)
    seen = vector.reset(7)
    vector.step(np.array([0, 1]))
    vector.close()
    np.testing.assert_array_equal(mine.unwrapped.__dict__["state"], state)
    np.testing.assert_array_equal(seen[1], gymnasium.make("CartPole-v1").reset(seed=8)[0])


def test_a_running_vector_environment_is_opened_once_at_a_time_and_stays_open() -> None:
    mine: Any = SyncVectorEnv([made_with] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    env = HostEnv.of(mine)
    assert (env.env_id, env.spec.action) == ("SyncVectorEnv", DiscreteSpec(3, start=1))
    for _ in range(2):
        vector = env.open(2)
        with pytest.raises(UsageError, match=r"SyncVectorEnv is a running vector environment and in use; give the env"):
            env.open(2)
        vector.reset(0)
        np.testing.assert_array_equal(vector.step(np.array([1, 2])).reward, [1, 2])
        vector.close()
        vector.close()
    assert not mine.closed
    with pytest.raises(UsageError, match=r"a running vector environment of 2 environments, but 3 are needed; give the"):
        env.open(3)


def test_gymnasiums_functional_vector_environments_are_not_taken() -> None:
    """They lose steps where one resets; the environments one by one are sound."""
    env = HostEnv("phys2d/CartPole-v1")
    assert not env.native
    assert dataclasses.replace(env, vectorization="sync").open(2).mode is AutoresetMode.SAME_STEP
    with pytest.raises(UsageError, match=r"environment of phys2d/CartPole-v1 loses steps .*; use vectorization 'auto'"):
        dataclasses.replace(env, vectorization="native").open(2)


def some_vector() -> Any:
    return SyncVectorEnv([made_with], autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HostEnv("CartPole-v1", vectorization="asynk"), r"unknown vectorization 'asynk'; did you mean 'async'"),
        (lambda: HostEnv("CartPole-v1", timeout=0), r"timeout of CartPole-v1 is 0; allowed: seconds above 0"),
        (lambda: HostEnv("CartPole-v1", timeout=float("nan")), r"timeout of CartPole-v1 is nan"),
        (
            lambda: HostEnv.of(3),
            r"3 is not an environment; allowed: a Gymnasium id, a gymnasium.Env class or",
        ),
        (lambda: HostEnv.of(Faulty, what=object()), r"arguments of Faulty must be JSON values, so that the run"),
        (
            lambda: HostEnv.of(Faulty(), what="raise"),
            r"Faulty is already made; pass arguments .*raise.* with its",
        ),
        (
            lambda: HostEnv.of(Faulty, vectorization="native"),
            r"Faulty is given as an object; vectorization 'native'",
        ),
        (
            lambda: HostEnv.of(some_vector(), max_episode_steps=3),
            r"SyncVectorEnv is a running vector environment, which",
        ),
        (
            lambda: HostEnv.of(some_vector(), vectorization="async"),
            r"SyncVectorEnv is a running vector environment, whi",
        ),
        (
            lambda: HostEnv.of(Locked()).open(2),
            r"Locked.*cannot be copied .*lock.* give its class, its Gymnasium id or",
        ),
        (lambda: HostEnv.of(lambda: 3).spec, r"lambda.* made 3; it must make a gymnasium.Env"),
        (
            lambda: HostEnv.of(Faulty, nonsense=1).spec,
            r"Faulty cannot be made: .*unexpected keyword argument 'nonsense'",
        ),
        (
            lambda: HostEnv("Acrobot-v1", vectorization="native").open(2),
            r"Gymnasium has no native vector environment for",
        ),
        (
            lambda: HostEnv("CartPole-v1", vectorization="native", autoreset_mode=AutoresetMode.SAME_STEP).open(2),
            r"vectorization 'native' has NEXT_STEP autoreset only, not SAME_STEP",
        ),
    ],
)
def test_a_wrong_argument_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("way", sorted(set(VECTORIZATIONS) - {"auto", "async"}))
def test_a_timeout_needs_worker_processes(way: str) -> None:
    message = rf"CartPole-v1 has a timeout, but vectorization '{way}', and a step in this process cannot be interrupted"
    with pytest.raises(UsageError, match=message):
        HostEnv("CartPole-v1", vectorization=way, timeout=1)


# Optional extras


def test_an_atari_game_comes_with_gymnasiums_preprocessing() -> None:
    pytest.importorskip("ale_py")
    env = HostEnv("ALE/Breakout-v5", max_episode_steps=3, vectorization="sync")
    assert env.spec.obs == BoxSpec((4, 84, 84), "uint8")
    vector = env.open(2)
    obs = vector.reset(0)
    assert (obs.dtype, obs.shape) == (np.uint8, (2, 4, 84, 84))
    assert [vector.step(np.zeros(2, np.int64)).truncated.all() for _ in range(3)] == [False, False, True]
    vector.close()
    assert HostEnv("ALE/Breakout-v5", kwargs='{"frameskip": 4}').spec.obs == BoxSpec((210, 160, 3), "uint8")
    assert HostEnv("ALE/Breakout-v5", kwargs='{"obs_type": "ram"}').spec.obs == BoxSpec((128,), "uint8")
    with pytest.raises(UsageError, match="clips rewards"):
        HostEnv("ALE/Breakout-v5", vectorization="native").open(2)


def test_envpool_steps_like_every_other_vector_environment() -> None:
    pytest.importorskip("envpool")
    env = HostEnv("CartPole-v1", vectorization="envpool", max_episode_steps=20)
    assert (env.spec.obs, env.spec.max_episode_steps) == (HostEnv("CartPole-v1").spec.obs, 20)
    vectors = [env.open(3) for _ in range(2)]
    assert [vector.how for vector in vectors] == ["EnvPool"] * 2
    np.testing.assert_array_equal(vectors[0].reset(4), vectors[1].reset(4))
    move = jax.vmap(lambda state, action: CartPole().transition(state, action, jax.random.key(0)))
    obs, ends = vectors[0].reset(4), 0
    for t in range(60):
        action = np.full(3, t % 2)
        step, other = (vector.step(action) for vector in vectors)
        np.testing.assert_array_equal(step.obs, other.obs)
        moved = move(jnp.asarray(obs), jnp.asarray(action))
        np.testing.assert_allclose(step.obs[step.valid], moved[step.valid], rtol=0, atol=1e-5)
        assert np.all(np.abs(step.obs[~step.valid]) <= 0.05)
        np.testing.assert_array_equal(step.reward, step.valid)
        obs, ends = step.obs, ends + int(step.truncated.sum())
    assert ends > 0
    for vector in vectors:
        vector.close()
    with pytest.raises(UsageError, match="unknown EnvPool task 'Taxi-v9'; did you mean 'Taxi-v3'"):
        HostEnv("Taxi-v9", vectorization="envpool").open(1)


def test_the_module_of_an_id_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_by_its_id.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Imported-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    env = rlgd.envs.make("imported_by_its_id:Imported-v0")
    assert (env.env_id, env.spec.max_episode_steps) == ("imported_by_its_id:Imported-v0", 7)
    assert isinstance(env, HostEnv)
    with contextlib.closing(env.open(2)) as vector:
        assert vector.reset(0).shape == (2, 4)
    with pytest.raises(UsageError, match="the module of no_such_module:X-v0 cannot be imported: No module named"):
        rlgd.envs.make("no_such_module:X-v0")
