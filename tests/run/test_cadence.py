"""The numbers of a run, computed once from its configuration."""

import dataclasses

import pytest

from rlgd import training
from rlgd.agents import A2C, REINFORCE
from rlgd.envs import make
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
