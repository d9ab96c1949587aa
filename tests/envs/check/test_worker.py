"""The worker process that checks an environment first."""

import multiprocessing
import os
import signal
import threading
import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlgd.envs.check import check, render
from tests.support.sound_envs import STEPS, Sound, expect, serious


class Killed(Sound):
    def step(self, action: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Exits(Sound):
    def __init__(self) -> None:
        os._exit(5)


def hangs() -> Any:
    class Hangs(gymnasium.Env[Any, Any]):
        observation_space, action_space = Discrete(2), Discrete(2)

        def reset(self, **kwargs: Any) -> Any:
            time.sleep(60)

    return Hangs


@pytest.mark.parametrize(
    ("env", "timeout", "where", "what"),
    [
        (Killed, 60, "reset and steps", "the process died: signal 9 (SIGKILL)"),
        (Exits, 60, "making", "the process died: exit code 5"),
        (hangs(), 1, "reset and steps", "did not finish within 1 s"),
    ],
)
def test_an_environment_dies_or_hangs_in_the_worker_process_only(
    env: Any, timeout: float, where: str, what: str
) -> None:
    report = check(env, timeout=timeout)
    expect(report, ("fault", "worker process", where, what))
    assert report.unfinished == ("worker process", "everything else")
    assert not multiprocessing.active_children()


def test_another_process_must_give_the_same_answers() -> None:
    here = os.getpid()

    class Elsewhere(Sound):
        def see(self) -> Any:
            return super().see() + np.float32(os.getpid() != here)

    report = check(Elsewhere, steps=STEPS)
    expect(report, ("fault", "determinism", "the same in the worker process, reset", "in another process"))

    def only_here() -> Sound:
        assert os.getpid() == here, "not here"
        return Sound()

    expect(check(only_here, steps=STEPS), ("fault", "worker process", "reset and steps", "AssertionError: not here"))


def test_an_environment_that_cannot_be_sent_is_checked_in_this_process() -> None:
    lock = threading.Lock()
    report = check(lambda: Sound() if lock else None, steps=STEPS)
    expect(report, ("warning", "worker process", "worker process, start", "cannot be sent to another process"))
    assert "SyncVectorEnv" in report.checked


def test_a_slow_environment_is_checked_for_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlgd.envs.check.checker.SECONDS", 1e-9)
    report = check("FrozenLake-v1")
    assert not serious(report)
    assert {"worker process", "the same in the worker process"} <= set(report.checked)
    assert any(finding.remedy.startswith("only 1 step") for finding in report.findings), render(report)
