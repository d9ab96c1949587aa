"""Slices: members equal runs alone, whatever the slices, and do not disturb one another."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rlgd
from rlgd.run import RunConfig, TrainResult
from rlgd.run.cadence import cadence
from rlgd.studies import Arm, StudyResult, seed_statistics
from rlgd.studies.outcome import ROWS
from tests.support.small_study import STEPS, VARY, assert_same_training, study


@pytest.mark.parametrize("slice_size", [1, 3])
def test_slices_change_nothing(whole: StudyResult, slice_size: int) -> None:
    other = study(slice_size=slice_size, workers=1)
    for number, outcome in whole.outcomes.items():
        assert_same_training(outcome, other.outcomes[number], 1e-4)


def train_like(config: RunConfig) -> TrainResult:
    """The run of a member alone."""
    settings = config.settings
    return rlgd.train(config.agent, "CartPole-v1", total_timesteps=settings.total_timesteps, seed=settings.seed)


@pytest.mark.slow
def test_exact_members_have_the_bits_of_the_run_alone() -> None:
    # With the compiler's own settings: under those of the tests it fuses other operations, which decides the last bit.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", "from tests.studies.test_slices import compare_exact_with_alone as it; it()"]
    subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, check=True, timeout=300)


def compare_exact_with_alone() -> None:
    together, one_by_one = study(exact=True), study(exact=True, slice_size=1)
    for number, outcome in together.outcomes.items():
        assert_same_training(outcome, one_by_one.outcomes[number], 0)
        config = together.plan.members[number]
        alone = train_like(config)
        rows = seed_statistics.curve(outcome, "train/entropy")
        entropy = alone.metrics["train/entropy"].astype(np.float64)
        every = cadence(config, ROWS).row_length
        means = [entropy[start : start + every].mean() for start in range(0, len(entropy), every)]
        np.testing.assert_array_equal(rows[:, 2], means)
        assert outcome.steps == alone.steps


def test_a_member_equals_the_run_alone_to_rounding(whole: StudyResult) -> None:
    for number in (0, 5):
        alone = train_like(whole.plan.members[number])
        first = seed_statistics.curve(whole.outcomes[number], "train/entropy")[:3, 2]
        np.testing.assert_allclose(first, alone.metrics["train/entropy"][:3], rtol=1e-4)


@pytest.mark.slow
def test_of_members_is_measured_what_is_measured_of_a_run() -> None:
    """Members pause at different iterations, and the short ones end early."""
    vary = {"eval_every": [64, 96], "total_timesteps": [STEPS, STEPS // 2]}
    result = study(vary=None, arms=[Arm("p", {"measure_every": 3}, vary)], seeds=1)
    assert len(result.plan.groups) == 1
    for number, outcome in result.outcomes.items():
        alone = train_like(result.plan.members[number]).metrics
        for tag in ("ascent/update_norm", "ascent/gradient_alignment", "ascent/noise_to_signal"):
            values = alone[tag][~np.isnan(alone[tag])]
            assert len(values) == (outcome.steps // 32 - 1) // 3 - ("alignment" in tag)
            np.testing.assert_allclose(seed_statistics.curve(outcome, tag)[:, 2], values, rtol=1e-3)


def test_a_member_that_diverges_changes_nothing_for_the_others(whole: StudyResult) -> None:
    vary = {"learning_rate": [0.01, 1e38]}
    result = study(vary=vary, metrics=["train/entropy"])
    fine, broken = result.point_results[0]
    assert (fine.diverged, broken.diverged) == (0, 1)
    assert all("is not finite in iteration" in outcome.why for outcome in broken.outcomes.values())
    for seed, outcome in fine.outcomes.items():
        assert_same_training(outcome, whole.outcomes[seed], 1e-4)
    # It counts with its last finite policy.
    assert all(np.isfinite(outcome.episode_return) for outcome in broken.outcomes.values())
    assert "nan" not in result.table()
    assert "| 100%" in result.table()


def test_criteria_end_members_one_by_one() -> None:
    vary = {"patience": [1, 2, 50]}
    result = study(vary=vary, cases=None, arms=[Arm("p", {"eval_every": 32, "learning_rate": 1e-9}, vary)])
    one, two, never = result.point_results[0]
    assert {o.reason for o in one.outcomes.values()} == {"patience"}
    assert {o.reason for o in never.outcomes.values()} == {"total_timesteps"}
    for first, second in zip(one.outcomes.values(), two.outcomes.values(), strict=True):
        assert first.steps < second.steps <= STEPS
        assert first.training_seconds < second.training_seconds
    alone = rlgd.train(
        result.plan.members[0].agent, rlgd.envs.make("CartPole-v1", backend="device"), total_timesteps=STEPS,
        eval_every=32, eval_episodes=3, patience=1,
    )  # fmt: skip
    assert alone.steps == one.outcomes[0].steps


def test_the_end_is_evaluated_and_divergence_stays_the_reason() -> None:
    settings = {"eval_every": 200, "patience": 1, "target_return": 1.0}
    result = study(vary=None, arms=[Arm("p", settings, {"learning_rate": [1e38]}), Arm("q", {"eval_every": 200}, VARY)])
    for outcome in result.point_results[0][0].outcomes.values():
        assert outcome.reason == "diverged"
        assert np.isfinite(outcome.episode_return)
    for outcome in result.point_results[1][0].outcomes.values():
        assert [row.step for row in outcome.rows if "eval/episode_return" in row.values] == [224, STEPS]
