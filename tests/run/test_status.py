"""What happens after a chunk, without a run: rows, evaluations, criteria, time."""

import math

from rlgd.run.cadence import Cadence
from rlgd.run.settings import CheckpointInterval
from rlgd.run.sinks.rows import Row
from rlgd.run.status import RunStatus
from rlgd.run.stopping import Fired, Stopping

CADENCE = Cadence(100, 10, 1, 1, 20, None, CheckpointInterval(60.0, None))
NO_EVALUATIONS = Cadence(100, 10, 1, 1, None, None, CheckpointInterval(60.0, None))


def row(step: int, **values: float) -> Row:
    names = {"norm": "ascent/gradient_norm", "mean": "rollout/episode_return"}
    return Row(step, 0.0, {names[name]: value for name, value in values.items()})


def test_a_run_is_over_at_its_last_step() -> None:
    status = RunStatus(Stopping(), CADENCE)
    assert not status.reached(90).is_over
    assert status.reached(100).is_over
    assert status.reached(100).outcome == Fired("total_timesteps", "")
    assert status.reached(100).stop is None


def test_an_evaluation_is_due_after_each_interval_and_once() -> None:
    status = RunStatus(Stopping(), CADENCE)
    due = []
    for steps in range(10, 101, 10):
        status = status.reached(steps)
        due.append(status.evaluation_is_due)
        if status.evaluation_is_due:
            status = status.after_evaluation(1.0)
            assert not status.evaluation_is_due
    assert due == [False, True] * 5
    assert not RunStatus(Stopping(), NO_EVALUATIONS).reached(100).evaluation_is_due


def test_the_first_criterion_counts() -> None:
    criteria = Stopping(min_gradient_norm=0.5, min_objective_change=1.0)
    status = RunStatus(criteria, CADENCE).reached(20).after_rows([row(10, mean=1.0), row(20, norm=0.1)])
    assert status.stop == Fired("min_gradient_norm", "the gradient's norm is 0.1 at step 20")
    later = status.after_rows([row(30, mean=1.1)]).stopped(Fired("patience", ""))
    assert later.stop == status.stop
    assert later.criteria.last_return == 1.1


def test_the_rest_at_the_end_is_seen_and_stops_nothing() -> None:
    status = RunStatus(Stopping(min_gradient_norm=0.5), CADENCE).after_rows([row(10, norm=0.1, mean=3.0)], judge=False)
    assert status.stop is None
    assert status.criteria.last_return == 3.0


def test_the_target_is_met_twice() -> None:
    status = RunStatus(Stopping(target_return=5.0), CADENCE).reached(20)
    assert not status.needs_second_evaluation(4.9)
    assert status.needs_second_evaluation(5.0)
    assert status.after_evaluation(5.0, 4.9).stop is None
    met = status.after_evaluation(6.0, 5.0)
    assert met.stop == Fired("target_return", "the evaluations at step 20 gave 6.0 and 5.0")
    assert not met.needs_second_evaluation(7.0)
    assert not status.needs_second_evaluation(math.nan)


def test_the_target_comes_before_patience() -> None:
    status = RunStatus(Stopping(target_return=5.0, patience=1), CADENCE).reached(20).after_evaluation(9.0, 1.0)
    assert status.stop is None
    both = status.reached(40).after_evaluation(8.0, 8.0)
    assert both.stop is not None
    assert both.stop.criterion == "target_return"
    assert status.reached(40).after_evaluation(4.0).outcome.criterion == "patience"


def test_the_best_evaluation_is_known_by_its_step() -> None:
    status = RunStatus(Stopping(patience=9), CADENCE).reached(20).after_evaluation(1.0)
    assert status.is_best
    assert status.best_is_result
    worse = status.reached(40).after_evaluation(0.5)
    assert (worse.is_best, worse.criteria.best_step, worse.evaluated_at) == (False, 20, 40)
    assert not RunStatus(Stopping(), CADENCE).reached(20).after_evaluation(1.0).best_is_result


def test_without_evaluations_during_training_the_last_one_judges_nothing() -> None:
    status = RunStatus(Stopping(), NO_EVALUATIONS).reached(100).after_evaluation(1.0)
    assert status.evaluated_at == 100
    assert not status.criteria.has_best


def test_time_is_a_criterion_like_others() -> None:
    status = RunStatus(Stopping(max_seconds=1.5), CADENCE).reached(30).out_of_time()
    assert status.stop == Fired("max_seconds", "1.5 seconds were over at step 30")
