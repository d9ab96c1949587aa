"""What ends ``rlgd.train`` from outside, and what is left of what was learned."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import rlgd
from rlgd.agents import PPO
from rlgd.errors import EnvironmentFault
from rlgd.run.checkpoints import folder
from tests.support.small_runs import AGENT, At

SMALL = PPO(num_envs=2, rollout_length=8, num_minibatches=2, num_epochs=1, hidden_sizes=(8,))
ITERATION, AT = 16, 1000  # steps of an iteration; the step in which something happens


class Disturbed(gymnasium.Env[Any, Any]):
    """An environment in whose step something happens, once."""

    observation_space, action_space = Box(-1, 1, (3,)), Discrete(2)
    steps, happens = 0, staticmethod(lambda: None)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        type(self).steps += 1
        if self.steps == AT:
            self.happens()
        return np.zeros(3, np.float32), 1.0, self.steps % 5 == 0, False, {}


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def fail() -> None:
    raise RuntimeError("the motor is hot")


def train(happens: Any, run_dir: Path | None) -> None:
    class Env(Disturbed):
        pass

    Env.happens = staticmethod(happens)
    rlgd.train(SMALL, Env, total_timesteps=10**7, run_dir=run_dir, eval_episodes=2, vectorization="sync")


LAST = (AT - 1) // ITERATION * ITERATION  # the last finished iteration


@pytest.mark.parametrize(("happens", "error"), [(interrupt, KeyboardInterrupt), (fail, EnvironmentFault)])
def test_without_a_directory_the_last_iteration_is_in_the_exception(happens: Any, error: type[BaseException]) -> None:
    with pytest.raises(error) as caught:
        train(happens, None)
    ended: Any = caught.value
    assert int(ended.state.iteration) == LAST // ITERATION
    assert ended.policy(np.zeros(3)) in (0, 1)
    assert ended.__notes__ == [f"{LAST:,} steps are kept: .policy and .state"]


def test_with_a_directory_it_is_a_checkpoint_that_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        train(interrupt, tmp_path)
    assert f"rlgd resume {tmp_path}" in caught.value.__notes__[0]
    assert folder.latest_step(tmp_path / "checkpoints") == LAST
    assert json.loads((tmp_path / "summary.json").read_text())["reason"] == "interrupted"
    resumed = rlgd.resume(tmp_path, env=Disturbed, total_timesteps=LAST + 64)
    assert resumed.steps == LAST + 64


def test_on_the_device_the_chunk_that_runs_is_kept() -> None:
    rlgd.train(AGENT, "CartPole-v1", total_timesteps=64)  # compiles
    timer = At(1, lambda: threading.Timer(0.3, interrupt).start())
    with pytest.raises(KeyboardInterrupt) as caught:
        rlgd.train(AGENT, "CartPole-v1", total_timesteps=10**7, sinks=[timer])
    ended: Any = caught.value
    assert int(ended.state.iteration) > 0
    assert ended.policy(np.zeros(4)) in (0, 1)
