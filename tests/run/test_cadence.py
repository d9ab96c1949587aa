"""The numbers of a run, computed once from its configuration."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import rlgd
from rlgd import training
from rlgd.agents import A2C, REINFORCE
from rlgd.envs import make
from rlgd.evaluation.evaluator import MAX_STEPS
from rlgd.run import RunConfig, RunSettings, Stopping
from rlgd.run.cadence import EVALUATIONS, cadence, crosses
from rlgd.run.sinks.rows import ROWS_PER_RUN

AGENT = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,))
ENV = make("CartPole-v1")
TOTAL = 32 * 4 * ROWS_PER_RUN


def config(**settings: object) -> RunConfig:
    return RunConfig(AGENT, ENV, RunSettings.of({"total_timesteps": TOTAL, **settings}))


def test_numbers_follow_from_the_configuration() -> None:
    pace = cadence(config(eval_every=1000, checkpoint_every="5s"))
    assert (pace.total_timesteps, pace.iteration_steps, pace.row_length) == (TOTAL, 32, 4)
    assert pace.chunk_length == training.chunk_length(AGENT, ENV)
    assert (pace.eval_steps, pace.checkpoints.seconds, pace.checkpoints.steps) == (1000, 5.0, None)
    assert cadence(config(), rows=100).row_length == 16
    assert cadence(config(total_timesteps=1)).row_length == 1


def test_an_iteration_of_whole_episodes_has_at_most_their_time_limit() -> None:
    whole = RunConfig(REINFORCE(num_envs=4), ENV, RunSettings())
    assert cadence(whole).iteration_steps == 4 * 512


@pytest.mark.parametrize(
    ("criteria", "every"),
    [
        (Stopping(), None),
        (Stopping(max_seconds=1.0), None),
        (Stopping(patience=2), TOTAL // EVALUATIONS),
        (Stopping(target_return=5.0), TOTAL // EVALUATIONS),
    ],
)
def test_criteria_that_need_evaluations_get_them(criteria: Stopping, every: int | None) -> None:
    plain = config()
    with_criteria = dataclasses.replace(plain, settings=dataclasses.replace(plain.settings, stopping=criteria))
    assert cadence(with_criteria).eval_steps == every
    assert cadence(with_criteria.with_settings(eval_every=7)).eval_steps == 7


def test_a_resumed_run_keeps_its_chunk_length() -> None:
    assert cadence(dataclasses.replace(config(), chunk_length=3)).chunk_length == 3


def test_a_chunk_ends_at_the_next_pause_or_at_the_end() -> None:
    pace = cadence(config(total_timesteps=1000, eval_every=300, checkpoint_every=400))
    assert pace.pauses == (300, 400)
    assert [pace.next_pause(steps) for steps in (0, 299, 300, 399, 400, 600, 899, 900)] == [
        300, 300, 400, 400, 600, 800, 900, 1000,
    ]  # fmt: skip


def test_a_multiple_is_crossed_when_it_is_reached() -> None:
    assert [crosses(10, before, now) for before, now in [(0, 9), (0, 10), (10, 19), (10, 20), (9, 31)]] == [
        False, True, False, True, True,
    ]  # fmt: skip
    assert not crosses(None, 0, 10**9)


class Endless(gymnasium.Env[Any, Any]):
    """An environment whose episodes never end."""

    observation_space, action_space = Box(-1, 1, (2,)), Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 1.0, False, False, {}


@pytest.mark.parametrize(
    ("total", "eval_every", "longest"),
    [(2_048, None, 1_000), (10**6, None, 5_000), (10**6, 10**5 * 4, 1_666), (10**9, None, MAX_STEPS)],
)
def test_evaluations_without_a_time_limit_take_about_as_long_as_training(
    total: int, eval_every: int | None, longest: int
) -> None:
    given = RunSettings.of({"total_timesteps": total, "eval_every": eval_every, "eval_episodes": 200})
    assert cadence(RunConfig(AGENT, make(Endless), given)).eval_max_steps == longest
    assert cadence(RunConfig(AGENT, make(Endless, max_episode_steps=7), given)).eval_max_steps is None


def test_what_is_evaluated_is_announced_and_what_was_cut_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "rlgd"):
        rlgd.train(AGENT, Endless, total_timesteps=32, eval_episodes=2, run_dir=tmp_path, vectorization="sync")
    assert [record.message for record in caplog.records] == [
        "evaluating 2 episodes of the greedy policy in Endless, at most 1,000 steps each, as it has no time limit ...",
        "2 of 2 episodes of the evaluation did not end within 1,000 steps; max_episode_steps sets a time limit.",
    ]
    evaluation = json.loads((tmp_path / "summary.json").read_text())["evaluation"]
    assert (evaluation["episodes"], evaluation["mean_length"]) == (2, 1000)
