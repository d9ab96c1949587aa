"""Answers over several environments, from made-up outcomes."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from rlgd.maths import confidence
from rlgd.studies import Arm, Outcome, Question, board, figures, page, tables, words
from rlgd.studies.over_tasks import Overall, over_tasks
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.seed_statistics import PointResult, point_results
from rlgd.studies.tasks import TASKS
from tests.support.small_study import outcome

ENVS = ("CartPole-v1", "Acrobot-v1")
STEPS = 100


@pytest.fixture(name="plan", scope="module")
def _plan() -> Plan:
    arm = Arm("heavy ball", vary={"env": [*ENVS, "FrozenLake-v1"], "momentum": [0.0, 0.9]})
    return make_plan(Question((arm,), agent="a2c", seeds=4, total_timesteps=STEPS))


def at(env_id: str, share: float, reached: float) -> Outcome:
    """An outcome with a normalized return, that reached the target after a share of its steps; inf: never."""
    random, solved, target = TASKS.get(env_id, (0.0, 1.0, 0.7))
    curve = [(STEPS // 2, target if reached <= 0.5 else random), (STEPS, target if reached <= 1 else random)]
    return outcome(random + share * (solved - random), STEPS, tuple((step, value) for step, value in curve))


@pytest.fixture(name="results", scope="module")
def _results(plan: Plan) -> list[list[PointResult]]:
    shares = {0.0: [0.1, 0.2, 0.3, 0.4], 0.9: [0.5, 0.6, 0.7, 0.8]}
    reached = {0.0: [math.inf] * 4, 0.9: [0.5, 0.5, 1.0, math.inf]}
    outcomes = {}
    for points in plan.points:
        env_id = plan.env_of(points).env_id
        for point, members in points:
            momentum = point.values["momentum"]
            for n, share, when in zip(members, shares[momentum], reached[momentum], strict=True):
                outcomes[n] = at(env_id, share, when)
    return point_results(plan, outcomes)


@pytest.fixture(name="overall", scope="module")
def _overall(plan: Plan, results: list[list[PointResult]]) -> Overall:
    (found,) = over_tasks(plan, results)
    return found


def test_environments_of_a_known_scale_are_taken_together(overall: Overall) -> None:
    assert (overall.name, overall.axis, overall.env_ids) == ("heavy ball", "momentum", ENVS)
    none, much = overall.points
    for by_seed in none.returns:
        assert by_seed == pytest.approx({0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4})
    assert none.score.value == pytest.approx(0.25)
    assert none.score.low < 0.25 < none.score.high
    assert none.improvement is None
    assert much.score.value == pytest.approx(0.65)
    assert much.improvement == (1, 1, 1)


def test_a_seed_that_never_reaches_the_target_counts_with_all_its_time(overall: Overall) -> None:
    none, much = overall.points
    assert none.time == (1, 1, 1)
    assert much.time.value == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert much.time.low < much.time.value < much.time.high


def test_a_return_that_is_not_finite_counts_as_random(plan: Plan, results: list[list[PointResult]]) -> None:
    first, *others = results[0]
    broken = dict(first.outcomes) | {0: dataclasses.replace(first.outcomes[0], episode_return=math.nan)}
    (found,) = over_tasks(plan, [[first._replace(outcomes=broken), *others], *results[1:]])
    assert found.points[0].returns[0][0] == 0


def test_seeds_are_paired_where_a_point_has_fewer(plan: Plan, results: list[list[PointResult]]) -> None:
    """As with ``until_separated``."""
    first, second = results[0]
    fewer = second._replace(outcomes={seed: second.outcomes[seed] for seed in (1, 3)})
    (found,) = over_tasks(plan, [[first, fewer], *results[1:]])
    assert found.points[1].returns[0].keys() == {1, 3}
    assert found.points[1].improvement == (1, 1, 1)


def test_where_nobody_reaches_a_target_no_time_is_best(plan: Plan, results: list[list[PointResult]]) -> None:
    none = [[rows[0], rows[1]._replace(reached=rows[0].reached)] for rows in results]
    assert "No seed reached a target." in words.in_short(plan, none)


def test_where_nothing_was_trained_there_is_no_such_answer(plan: Plan) -> None:
    outcomes = {n: outcome(1.0) for n in range(len(plan.members))}
    assert over_tasks(plan, point_results(plan, outcomes)) == []


def test_one_environment_has_no_such_answer() -> None:
    plan = make_plan(Question((Arm("a", vary={"gamma": [0.9, 0.99]}),), seeds=1))
    results = point_results(plan, {n: outcome(1.0, 10, ((10, 1.0),)) for n in range(2)})
    assert over_tasks(plan, results) == []
    assert tables.overall_tables(plan, results) == ""


def test_tables_words_and_figures_show_it(plan: Plan, results: list[list[PointResult]]) -> None:
    text = page.summary_page(plan, results, (), ())
    assert "**heavy ball in all environments** (CartPole-v1, Acrobot-v1)\n\n| setting " in text
    assert "- Normalized return: 0 is a policy that acts at random" in text
    told = words.answer(plan, results)
    assert "**heavy ball in all environments**: the normalized return is highest with **momentum=0.9**" in told
    drawn = figures.draw(plan, results)
    assert {"normalized-return", "normalized-time", "performance-profiles"} <= drawn.keys()
    assert drawn.keys() == board.PICTURES.keys() - {"surface"}


def test_each_line_has_the_intervals_of_its_points(overall: Overall) -> None:
    other = overall._replace(name="Adam")
    drawn = figures.over_all_tasks([overall, other])
    (panel,) = drawn["normalized-time"].axes
    assert [bar.get_label() for bar in panel.containers] == ["heavy ball", "Adam"]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0", "0.9"]
    line = panel.get_lines()[0]
    np.testing.assert_allclose(np.asarray(line.get_ydata()), [point.time.value for point in overall.points])
    assert len(drawn["performance-profiles"].axes) == 2


def test_many_lines_are_told_apart_and_named_beside_the_panel(overall: Overall) -> None:
    names = [f"arm {n}" for n in range(20)]
    along = ("learning_rate", "momentum")
    families = [overall._replace(name=name, axis=along[n % 2]) for n, name in enumerate(names)]
    figure = figures.over_all_tasks(families)["normalized-return"]
    panel, other = figure.axes
    (legend,) = figure.legends
    assert panel.get_legend() is None
    assert {text.get_text() for text in legend.get_texts()} == {*names}
    drawn = [line for axes in (panel, other) for line in axes.get_lines() if line.get_linestyle() != "None"]
    styles = {(line.get_color(), line.get_marker()) for line in drawn}
    assert len(styles) == len(names)
    figures.png(figure)
    assert legend.get_window_extent().x0 > other.get_window_extent().x1


def test_charts_have_the_intervals_of_the_table(
    plan: Plan, results: list[list[PointResult]], overall: Overall, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board.write_answer(plan, results, {}, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "arms" / "heavy-ball")).Reload()
    for name, find in (("normalized return", "score"), ("normalized time to the target", "time")):
        tag = f"answer/{name} by momentum in all environments"
        for place, point in enumerate(overall.points):
            expected = getattr(point, find)
            for one, value in zip((tag, f"interval/{tag}, low", f"interval/{tag}, high"), expected, strict=True):
                shown = {event.step: event.value for event in events.Scalars(one)}
                assert shown[place * board.PLACES_APART] == pytest.approx(value)


def test_the_mean_improvement_is_that_of_the_environments() -> None:
    random = np.random.default_rng(0)
    pairs = [(random.normal(size=9), random.normal(size=9)), (random.normal(size=5) + 1, random.normal(size=5))]
    found = confidence.mean_improvement(pairs)
    assert found.value == pytest.approx(np.mean([confidence.probability_of_improvement(*pair).value for pair in pairs]))
    assert found.low < found.value < found.high


def test_a_profile_falls_from_all_runs_to_none() -> None:
    strata = [np.array([0.1, 0.5]), np.array([0.5, 0.9])]
    value, low, high = confidence.profile(strata, np.array([0.0, 0.3, 0.5, 0.8, 1.0]))
    np.testing.assert_allclose(value, [1, 0.75, 0.25, 0.25, 0])
    assert (low <= value).all()
    assert (value <= high).all()
