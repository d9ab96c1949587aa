"""The space of a search: ranges, choices, and how both are stored in Optuna's journal."""

import optuna
import pytest

from rlgd.errors import UsageError
from rlgd.tuning.space import Range, dimension, suggest_value, values_of


def test_ranges_and_choices() -> None:
    assert dimension("x", {"log": [1, 64]}) == Range(1, 64, True)
    assert dimension("x", {"linear": [0, 1.0]}) == Range(0.0, 1.0, False)
    assert dimension("x", [[64, 64], [8]]) == ((64, 64), (8,))


def test_a_range_has_no_number_of_points() -> None:
    with pytest.raises(UsageError, match="expected a list, or"):
        dimension("x", {"log": [1, 64], "points": 3})


def test_values_return_from_the_journal_as_they_were_given() -> None:
    space = {
        "layers": dimension("layers", [(64, 64), (8,), ()]),
        "count": dimension("count", {"linear": [2, 5]}),
        "rate": dimension("rate", {"log": [1e-4, 1e-1]}),
        "flag": dimension("flag", [True, None]),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        values = {name: suggest_value(trial, name, part) for name, part in space.items()}
        assert values_of(space, trial.params) == values
        assert values["layers"] in space["layers"]
        assert type(values["count"]) is int
        assert 2 <= values["count"] <= 5
        assert 1e-4 <= values["rate"] <= 1e-1
        assert values["flag"] in (True, None)


def test_values_that_a_trial_lacks_are_left_out() -> None:
    assert values_of({"x": Range(0, 1, False), "y": (1, 2)}, {"y": "2"}) == {"y": 2}
