"""Environments that really break: each fault is one message with the environment, the fault, when, and the action."""

import dataclasses
import json
import os
import signal
import time
import traceback
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv

from rlgd.envs.host.host_env import HostEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.envs.host.workers import InWorker, WorkerVector
from rlgd.errors import EnvironmentFault
from rlgd.spaces import DiscreteSpec
from tests.support.faulty_envs import FAULTS, Faulty, Tree, Wandering

STEP, ACTION = 2, 3  # of the fault, in environment 1
WHERE = rf" in step {STEP} since the reset; its last action was {ACTION}\."
FINITE = ", which must be finite,"
KINDS = {
    "raise": r"raised RuntimeError\('out of order'\) \(.*faulty_envs\.py:\d+\)",
    "unsendable": r"raised Local\('cannot be sent'\) \(.*faulty_envs\.py:\d+\)",
    "nan observation": f"gave the observation nan{FINITE}",
    "infinite observation": f"gave the observation inf{FINITE}",
    "huge observation": f"gave the observation inf{FINITE}",
    "long observation": r"gave the observation in the shape \(4,\), which must be \(2,\),",
    "short observation": r"gave the observation in the shape \(1,\), which must be \(2,\),",
    "complex observation": "gave the observation as complex128, which must be float32,",
    "ragged observation": r"gave as observation \[\[1\.0\], \[1\.0, 2\.0\]\], which must be an array .*,",
    "no observation": r"gave the observation in the shape \(\), which must be \(2,\),",
    "nan reward": f"gave the reward nan{FINITE}",
    "infinite reward": f"gave the reward -inf{FINITE}",
    "no reward": "gave the reward None, which must be one real number,",
    "array reward": r"gave the reward array\(\[1\.\]\), which must be one real number,",
    "complex reward": "gave the reward 1j, which must be one real number,",
    "text reward": "gave the reward '1.0', which must be one real number,",
    "four values": r"returned 4 values from step, which must return \(obs, reward, terminated, truncated, info\),",
    "no info": "gave the info None, which must be a dictionary,",
}
# These end or stop their process, so they are tried in worker processes only.
DEADLY = {
    "segfault": r"\(worker process \d+\) died: signal 11 \(SIGSEGV\)",
    "exit": r"\(worker process \d+\) died: exit code 7",
    "hang": r"\(worker process \d+\) gave no answer within 0\.5 s",
}
IN_WORKERS = ("raise", "unsendable", "long observation", "huge observation")


def opened(
    way: str, what: str, mode: AutoresetMode | None = None, timeout: float | None = None, **more: Any
) -> HostVector:
    kwargs = json.dumps({"what": what, "step": STEP} | more)
    env = HostEnv("Faulty", kwargs=kwargs, autoreset_mode=mode, vectorization=way, timeout=timeout, source=Faulty)
    return env.open(3)


def play(vector: HostVector, action: Any = (1, ACTION, 2), steps: int = 5) -> None:
    vector.reset(0)
    for _ in range(steps):
        vector.step(np.array(action))


def ended(vector: HostVector) -> bool:
    """Whether every worker process is gone."""
    assert isinstance(vector.vector, WorkerVector)
    return not any(process.is_alive() for process in vector.vector.processes)


def test_every_fault_has_a_message() -> None:
    assert KINDS.keys() | DEADLY.keys() == FAULTS.keys()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy's own, of a cast
@pytest.mark.parametrize("what", KINDS)
def test_a_fault_in_this_process(what: str) -> None:
    vector = opened("sync", what)
    with pytest.raises(EnvironmentFault, match=f"^Faulty: environment 1 {KINDS[what]}{WHERE}$") as caught:
        play(vector)
    vector.close()
    assert caught.value.exit_code == 3
    if what == "raise":
        assert "out of order" in "".join(traceback.format_exception(caught.value.__cause__))


@pytest.mark.parametrize("what", IN_WORKERS)
def test_a_fault_in_a_worker_process_has_the_same_message(what: str) -> None:
    vector = opened("async", what)
    with pytest.raises(EnvironmentFault, match=f"^Faulty: environment 1 {KINDS[what]}{WHERE}$") as caught:
        play(vector)
    if what == "raise":
        assert isinstance(caught.value.__cause__, InWorker)
        assert 'raise RuntimeError("out of order")' in str(caught.value.__cause__)
    start = time.monotonic()
    vector.close()
    assert time.monotonic() - start < 5
    assert ended(vector)


@pytest.mark.parametrize("what", DEADLY)
def test_a_worker_that_dies_or_hangs_is_named_and_the_others_are_ended(what: str) -> None:
    vector = opened("async", what, timeout=0.5 if what == "hang" else None)
    start = time.monotonic()
    with pytest.raises(EnvironmentFault, match=f"^Faulty: environment 1 {DEADLY[what]}{WHERE}$"):
        play(vector)
    assert time.monotonic() - start < 5
    assert ended(vector)
    vector.close()
    vector.close()


def test_a_worker_that_dies_is_named_even_while_another_hangs() -> None:
    vector = opened("async", "hang", also="exit")
    start = time.monotonic()
    with pytest.raises(
        EnvironmentFault, match=r"^Faulty: environment 2 \(worker process \d+\) died: exit code 7 in step 2"
    ):
        play(vector)
    assert time.monotonic() - start < 5
    assert ended(vector)


def test_a_worker_that_is_killed_between_two_steps_is_named() -> None:
    vector = opened("async", "nothing")
    vector.reset(0)
    assert isinstance(vector.vector, WorkerVector)
    killed = vector.vector.processes[1]
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    died = (
        rf"environment 1 \(worker process {killed.pid}\) died: signal 9 \(SIGKILL\) in step 0 since the reset; its last"
    )
    with pytest.raises(EnvironmentFault, match=died):
        vector.step(np.array([1, ACTION, 2]))
    assert ended(vector)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    ("step", "when"), [(0, r"in the reset\."), (5, "in step 4 since the reset; its last action was 3")]
)
def test_a_fault_in_a_reset(way: str, step: int, when: str) -> None:
    """In the first one, and in one after an episode's end."""
    vector = opened(way, "reset", step=step)
    with pytest.raises(
        EnvironmentFault, match=rf"^Faulty: environment 1 raised RuntimeError\('cannot begin'\) \(.*\) {when}"
    ):
        play(vector)
    vector.close()


def test_a_long_action_is_shortened_in_messages() -> None:
    class Wide(gymnasium.Env[Any, Any]):
        observation_space, action_space = Box(0, 1, (1,)), Box(-1, 1, (50,))

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            raise ValueError("no")

    vector = HostEnv.of(Wide).open(1)
    vector.reset(0)
    with pytest.raises(EnvironmentFault, match=r"its last action was \[0\.3333, 0\.3333, .*\.\.\., .*\]\.$") as caught:
        vector.step(np.full((1, 50), 1 / 3, np.float32))
    assert len(str(caught.value)) < 400


# Vector environments that are not made of single ones, so that no wrapper checks each of them


class Plain(VectorEnv[Any, Any, Any]):
    """Two environments that always give the same answer."""

    def __init__(
        self, mode: Any, obs: Any = None, info: Any = None, reward: Any = (0.0, 1.0), done: Any = (0, 0)
    ) -> None:
        self.metadata = {"autoreset_mode": mode}
        self.num_envs, self.single_action_space = 2, Discrete(3)
        self.single_observation_space = Box(-np.inf, np.inf, (2,))
        self.obs = np.zeros((2, 2), np.float32) if obs is None else obs
        self.answer = (self.obs, reward, np.array(done, bool), np.zeros(2, bool), info or {})

    def reset(self, **kwargs: Any) -> Any:
        return np.zeros((2, 2), np.float32), {}

    def step(self, actions: Any) -> Any:
        return self.answer


NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            {"obs": np.zeros((2, 3), np.float32)},
            r"gave the observation as float32 in the shape \(2, 3\), which must be fl",
        ),
        (
            {"obs": np.zeros((2, 2), complex)},
            r"gave the observation as complex128 in the shape \(2, 2\), which must be fl",
        ),
        (
            {"obs": np.full((2, 2), -np.inf)},
            r"environment 0 gave the observation -inf, which must be finite, in step 0",
        ),
        (
            {"obs": np.array([[0, 0], [0, 1e300]])},
            r"environment 1 gave the observation 1e\+300, which float32 cannot hold, in step",
        ),
        (
            {"reward": np.zeros((2, 1))},
            r"gave the rewards as float64 in the shape \(2, 1\), which must be numbers in the shape \(2,\), ",
        ),
        ({"reward": [None, 1.0]}, "gave the rewards as object"),
        (
            {"reward": [0.0, 1e300]},
            r"environment 1 gave the reward 1e\+300, which float32 cannot hold, in step 0 .* action was 2\.",
        ),
        (
            {"reward": [0.0, np.nan]},
            r"environment 1 gave the reward nan, which must be finite, in step 0 .* action was 2\.",
        ),
    ],
)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_fault_in_a_vector_environment(mode: AutoresetMode, fault: dict[str, Any], message: str) -> None:
    vector = HostEnv.of(Plain(mode, **fault)).open(2)
    vector.reset(0)
    with pytest.raises(EnvironmentFault, match=f"^Plain.*{message}"):
        vector.step(np.array([1, 2]))


@pytest.mark.parametrize(
    ("mode", "answer", "what"),
    [
        (
            SAME,
            {"done": (0, 1)},
            "SAME_STEP autoreset, but it gives no final_obs at the end of an episode in step 0",
        ),
        (SAME, {"done": (0, 1), "info": {"final_obs": [0, None]}}, "SAME_STEP autoreset, but it gives no final_obs"),
        (
            NEXT,
            {"done": (0, 1), "info": {"final_obs": [0, 0]}},
            "NEXT_STEP autoreset, but it gives final_obs, as SAME_ST",
        ),
        (
            NEXT,
            {"done": (0, 1)},
            "NEXT_STEP autoreset, but it gives a reward or an end where it has only to reset, in s",
        ),
        (DISABLED, {"done": (0, 1), "info": {"final_obs": [0, 0]}}, "DISABLED autoreset, but it gives final_obs"),
    ],
)
def test_metadata_with_a_wrong_autoreset_mode(mode: AutoresetMode, answer: dict[str, Any], what: str) -> None:
    vector = HostEnv.of(Plain(mode, **answer)).open(2)
    with pytest.raises(EnvironmentFault, match=f"^the metadata of Plain say {what}.*; `rlgd check-env Plain` shows"):
        play(vector, (1, 2))


@pytest.mark.parametrize("said", list(AutoresetMode))
@pytest.mark.parametrize("real", list(AutoresetMode))
def test_gymnasiums_own_environments_under_wrong_metadata(said: AutoresetMode, real: AutoresetMode) -> None:
    """Only the true mode plays on; and DISABLED in place of NEXT_STEP, whose reset by hand comes earlier."""
    env = HostEnv("Wandering", autoreset_mode=real, vectorization="sync", source=Wandering)
    inner = env.open(2).vector
    inner.metadata["autoreset_mode"] = said
    vector = HostVector(inner, env.spec, env.env_id)
    if said is real or (said, real) == (DISABLED, NEXT):
        play(vector, (1, 2), steps=50)
    else:  # Gymnasium itself raises if nobody resets
        with pytest.raises(EnvironmentFault, match=f"say {said.name} autoreset|AssertionError"):
            play(vector, (1, 2), steps=50)


# Parts of observations, and masks


@pytest.mark.parametrize(
    ("way", "fault", "what"),
    [
        ("sync", "nan", r"gave the observation\['joints'\]\[0\] nan, which must be finite,"),
        ("sync", "dtype", r"gave the observation\['joints'\]\[1\] as float64, which must be int64,"),
        (
            "sync",
            "structure",
            r"gave as observation the keys \['joints'\], which must have the keys \['camera', 'joints'",
        ),
        (
            "async",
            "structure",
            r"gave as observation the keys \['joints'\], which must have the keys \['camera', 'joint",
        ),
        ("sync", "mask", r"gave an action mask that allows no action"),
    ],
)
def test_a_fault_in_a_part_of_an_observation(way: str, fault: str, what: str) -> None:
    vector = HostEnv.of(Tree, vectorization=way, fault=fault).open(1)
    with pytest.raises(EnvironmentFault, match=f"^Tree: environment 0 {what}.* in (the reset|step 1 since)"):
        play(vector, [[1, 2]])
    vector.close()


def test_an_action_mask_of_the_wrong_length() -> None:
    env = HostEnv.of(Tree)
    inner = env.open(1).vector
    vector = HostVector(inner, dataclasses.replace(env.spec, action=DiscreteSpec(4)), "Tree")
    with pytest.raises(
        EnvironmentFault, match=r"^Tree gave an action mask of 5 entries, which must have 4, in the reset\."
    ):
        vector.reset(0)
