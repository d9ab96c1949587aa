"""The figures of a search, from made-up trials."""

import math
import warnings
from typing import Any

import numpy as np
import optuna
import pytest

from rlgd.tuning import figures
from rlgd.tuning.sharing import HISTORY, IMPORTANCE


def study_of(scores: list[float], names: tuple[str, ...] = ("rate", "noise")) -> tuple[Any, list[dict[str, Any]]]:
    """A study whose first hyper-parameter alone decides the score, and the records of its trials."""
    study = optuna.create_study(direction="maximize")
    space: dict[str, Any] = {name: optuna.distributions.FloatDistribution(0.0, 10.0) for name in names}
    rng = np.random.default_rng(0)
    records = []
    for number, score in enumerate(scores):
        values = {name: float(rng.uniform(0, 10)) for name in names} | {names[0]: score}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=space, value=score))
        records.append({"number": number, "state": "complete", "score": score, "values": values})
    return study, records


def test_the_hyperparameter_that_decides_is_the_most_important() -> None:
    study, _ = study_of([float(n % 10) + n / 100 for n in range(40)])
    shares = figures.importances(study)
    assert list(shares) == ["rate", "noise"]
    assert shares["rate"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("scores", [[1.0] * figures.MIN_TRIALS, [float(n) for n in range(figures.MIN_TRIALS)]])
def test_few_trials_or_equal_ones_are_no_reason_to_warn(scores: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figures.draw(*study_of(scores))
    assert set(drawn) == {HISTORY, IMPORTANCE}
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())


def test_an_importance_needs_trials_and_something_to_compare() -> None:
    assert set(figures.draw(*study_of([1.0] * (figures.MIN_TRIALS - 1)))) == {HISTORY}
    assert set(figures.draw(*study_of([1.0] * figures.MIN_TRIALS, ("rate",)))) == {HISTORY}


def test_the_history_shows_scores_and_the_best_so_far() -> None:
    trials = [
        {"number": 0, "state": "diverged", "score": math.nan},
        {"number": 1, "state": "complete", "score": 3.0},
        {"number": 2, "state": "pruned", "score": 9.0},
        {"number": 3, "state": "complete", "score": 2.0},
        {"number": 4, "state": "complete", "score": 5.0},
    ]
    (axes,) = figures.history(trials).axes
    lines = {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in axes.lines}
    assert lines == {
        "complete": [[1, 3], [3, 2], [4, 5]],
        "pruned": [[2, 9]],
        "best so far": [[1, 3], [3, 3], [4, 5]],
    }
