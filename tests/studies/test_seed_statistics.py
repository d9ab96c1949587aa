"""Statistics over seeds, with numbers that can be computed by hand."""

import math

import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.exact import TabularMDP
from rlgd.studies import Arm, Question
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.seed_statistics import (
    CURVE_POINTS,
    area,
    area_in_time,
    curve,
    first_reached,
    late_mean,
    mean_curve,
    point_results,
    target_return,
)
from tests.support.small_study import outcome

RETURN = "rollout/episode_return"
LINE = outcome(5.0, 100, ((0, 0.0), (50, 10.0), (100, 20.0)))


@pytest.fixture(name="plan", scope="module")
def _plan() -> Plan:
    arm = Arm("a", {}, {"gamma": [0.9, 0.99]})
    return make_plan(Question((arm,), agent="a2c", seeds=3, target_return=10.0))


def test_the_area_is_the_mean_over_steps() -> None:
    assert area(LINE) == 10.0
    assert area(outcome(curve=((10, 3.0),))) == 3.0
    assert math.isnan(area(outcome()))


def test_the_first_row_that_reaches_the_target_counts() -> None:
    assert first_reached(LINE, 10.0) == (50, 50.0)
    assert first_reached(LINE, 20.5) == (math.inf, math.inf)


def test_the_late_mean_is_that_of_the_last_tenth() -> None:
    late = outcome(steps=100, curve=((50, 0.0), (92, 1.0), (100, 3.0)))
    assert late_mean(late, RETURN) == 2.0
    assert late_mean(outcome(steps=1000, curve=((50, 0.0), (92, 1.0))), RETURN) == 1.0  # the last row of all
    assert math.isnan(late_mean(late, "train/entropy"))


def test_a_curve_has_the_rows_that_measured_the_metric() -> None:
    np.testing.assert_array_equal(curve(LINE), [[0, 0, 0], [50, 50, 10], [100, 100, 20]])
    assert curve(LINE, "train/entropy").shape == (0, 3)


def test_points_have_their_seeds_and_compare_with_the_first(plan: Plan) -> None:
    returns = (1.0, 2.0, 3.0, 4.0, 5.0, math.nan)
    ((first, second),) = point_results(plan, {n: outcome(value) for n, value in enumerate(returns)})
    assert list(first.outcomes) == [0, 1, 2]
    assert first.improvement is None
    assert first.score is not None
    assert first.score.value == 2.0
    assert second.score is not None
    assert second.score.value == 4.5  # a seed that is not finite does not take the others away
    assert second.improvement is not None
    assert second.improvement.value == 1.0
    assert first.distance is None


def test_a_point_without_finished_seeds_is_empty(plan: Plan) -> None:
    ((first, second),) = point_results(plan, {0: LINE})
    assert first.reached == ((50, 50.0),)
    assert second.score is second.improvement is second.area is None
    assert second.reached == ()
    assert mean_curve(second, "steps") is None


def test_a_mean_curve_reads_all_seeds_at_the_same_places(plan: Plan) -> None:
    other = outcome(5.0, 100, ((0, 10.0), (100, 30.0)))
    ((first, _),) = point_results(plan, {0: LINE, 1: other})
    line = mean_curve(first, "steps")
    assert line is not None
    assert line.x.shape == line.mean.shape == (CURVE_POINTS,)
    np.testing.assert_allclose(line.mean, 5 + line.x / 5)
    assert (line.low <= line.mean).all()
    assert (line.mean <= line.high).all()


def test_the_target_is_the_questions_or_the_environments() -> None:
    arm = Arm(vary={"gamma": [0.9]})
    assert target_return(make_plan(Question((arm,), target_return=7.0)), "CartPole-v1") == 7.0
    for env_id, target in {"CartPole-v1": 475.0, "Pendulum-v1": -200.0, "FrozenLake-v1": 0.7, "unknown": None}.items():
        assert target_return(make_plan(Question((arm,))), env_id) == target


def test_the_distance_to_the_optimum_where_it_is_known() -> None:
    """Two actions, of which one pays."""
    problem = TabularMDP(np.ones((1, 2, 1)), np.array([[0.0, 1.0]]), np.ones(1), 0.9, horizon=3)
    env = rlgd.envs.make(problem.env, max_episode_steps=3)
    agent = A2C(num_envs=8, rollout_length=6, hidden_sizes=(), gamma=0.9, measure_every=0)
    result = rlgd.study(agent, env, {"learning_rate": [1e-6, 0.3]}, seeds=2, total_timesteps=4800, eval_episodes=2)
    still, learned = result.point_results[0]
    best = problem.optimum().objective
    assert still.distance is not None
    assert learned.distance is not None
    assert still.distance.value == pytest.approx(best / 2, rel=0.1)
    assert learned.distance.value < 0.1 * best
    assert "distance to the optimum" in result.table()


def test_a_seed_that_never_reached_the_target_counts_with_the_most_that_a_point_had() -> None:
    """Also where another point takes longer: a fast program that does not get there must not look fast."""
    arm = Arm(vary={"total_timesteps": [100, 200]})
    plan = make_plan(Question((arm,), seeds=2, target_return=10.0))
    never, late = ((50, 0.0), (100, 0.0)), ((100, 0.0), (150, 10.0), (200, 10.0))
    outcomes = {0: outcome(0.0, 100, never), 1: outcome(0.0, 100, ((50, 10.0), (100, 10.0)))}
    outcomes |= {2: outcome(0.0, 200, late), 3: outcome(0.0, 200, late)}
    ((short, long),) = point_results(plan, outcomes)
    assert short.budget == long.budget == (200, 200)
    assert short.steps_to_target is not None
    assert short.seconds_to_target is not None
    assert long.seconds_to_target is not None
    assert short.steps_to_target.value == short.seconds_to_target.value == (200 + 50) / 2
    assert (short.seconds_to_target.low, short.seconds_to_target.high) == (50, 200)
    assert long.seconds_to_target == (150, 150, 150)


def test_a_mean_over_seconds_holds_the_last_return() -> None:
    line = outcome(0.0, 100, ((0, 0.0), (100, 10.0)))  # a step takes a second
    assert area_in_time(line, 100) == 5
    assert area_in_time(line, 200) == 7.5
    assert area_in_time(line, 50) == 2.5
    assert math.isnan(area_in_time(outcome(0.0, 100), 100))
