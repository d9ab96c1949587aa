"""How many values of a setting work, from made-up outcomes."""

import numpy as np
import pytest

from rlgd.maths import confidence
from rlgd.studies import Arm, Question, page, tables, words
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.seed_statistics import PointResult, point_results
from rlgd.studies.tasks import TASKS
from rlgd.studies.working import Working, working
from tests.support.small_study import outcome

ENVS, STEPS, SEEDS = ("CartPole-v1", "Acrobot-v1"), 100, 4
GRID = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
# Normalized returns of each value, in both environments.
SHARES = {
    "wide": ([0.1, 0.97, 1.0, 0.99, 0.96], [0.97, 0.96, 1.0, 0.2, 0.2]),
    "narrow": ([0.1, 0.2, 0.5, 0.2, 0.1], [0.0, 0.0, -0.1, -0.1, -0.1]),
    "without": ([0.9], [0.7]),
}


def made(**arms: list[float]) -> Plan:
    optimizers = {"wide": "adam", "narrow": "lion", "without": "prodigy"}
    found = [
        Arm(name, {"optimizer": optimizers[name]}, {"env": ENVS, "learning_rate": values})
        for name, values in arms.items()
    ]
    return make_plan(Question(tuple(found), agent="a2c", seeds=SEEDS, total_timesteps=STEPS))


def found_in(plan: Plan) -> list[list[PointResult]]:
    outcomes = {}
    for arm, points in zip(plan.question.arms, plan.points, strict=True):
        env_id = plan.env_of(points).env_id
        random, solved, _ = TASKS[env_id]
        for share, (_, members) in zip(SHARES[arm.name][ENVS.index(env_id)], points, strict=True):
            for n, noise in zip(members, (-0.001, 0.0, 0.0, 0.001), strict=True):
                outcomes[n] = outcome(random + (share + noise) * (solved - random), STEPS, ())
    return point_results(plan, outcomes)


@pytest.fixture(name="plan", scope="module")
def _plan() -> Plan:
    return made(wide=GRID, narrow=GRID, without=[1.0])


@pytest.fixture(name="results", scope="module")
def _results(plan: Plan) -> list[list[PointResult]]:
    return found_in(plan)


@pytest.fixture(name="grids", scope="module")
def _grids(plan: Plan, results: list[list[PointResult]]) -> list[Working]:
    return working(plan, results)


def test_values_count_that_are_near_the_best_in_the_mean_over_environments(grids: list[Working]) -> None:
    wide, narrow, without = grids
    assert [grid.name for grid in grids] == ["wide", "narrow", "without"]
    assert wide.axis == "learning_rate"
    assert wide.decades == pytest.approx(4)
    assert wide.share is not None
    assert wide.share.value == pytest.approx((4 / 5 + 3 / 5) / 2)
    assert wide.best.value == pytest.approx(1, abs=0.01)
    assert narrow.share is not None
    assert narrow.share.value == pytest.approx((1 / 5 + 0) / 2)  # nothing works where the best is as bad as random
    assert without.share is None
    assert without.best.value == pytest.approx(0.8, abs=0.01)


def test_the_bootstrap_draws_seeds_and_chooses_the_best_anew() -> None:
    certain = confidence.share_near_the_best([np.array([[1.0] * 6, [0.99] * 6, [0.5] * 6])], 0.95)
    assert tuple(certain) == pytest.approx((2 / 3,) * 3)
    unsure = confidence.share_near_the_best([np.array([[1.0] * 6, [1.0, 1.0, 1.0, 0.9, 0.9, 0.9]])], 0.95)
    assert unsure.low == pytest.approx(0.5)
    assert unsure.high == pytest.approx(1)


def test_tables_words_and_notes_say_it(plan: Plan, results: list[list[PointResult]], grids: list[Working]) -> None:
    text = tables.overall_tables(plan, results)
    assert "**values that work**" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| wide ")]
    assert "0.70 [" in row
    assert "2.8 [" in row
    (beside,) = [line for line in text.splitlines() if line.startswith("| without ")]
    assert beside.count("|") == row.count("|")
    said = words.in_short(plan, results)
    assert said.startswith("The largest share of values of learning_rate works with **wide**: 70%")
    assert "the smallest with **narrow**: 10%" in said
    assert "Values that work:" in page.summary_page(plan, results, (), ())
    assert grids


def test_one_grid_is_compared_with_nothing() -> None:
    plan = made(wide=GRID, without=[1.0])
    assert working(plan, found_in(plan)) == []
