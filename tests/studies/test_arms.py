"""Arms: the combinations of values that they make, and the grids that are refused."""

import itertools
from typing import Any

import numpy as np
import pytest

from rlgd.errors import UsageError
from rlgd.studies import Arm
from rlgd.studies.arms import as_label, expand_values


def test_every_combination_is_a_point() -> None:
    arm = Arm("a", {"gamma": 0.9}, {"momentum": [0.0, 0.5], "hidden_sizes": [[], [8, 4]]})
    points = list(arm.points())
    assert len(arm) == len(points) == 4
    assert [p.label for p in points] == [
        f"momentum={m} hidden_sizes={h}" for m, h in itertools.product(("0", "0.5"), ("none", "8-4"))
    ]
    assert points[3].values == {"momentum": 0.5, "hidden_sizes": (8, 4)}
    assert points[3].settings == {"gamma": 0.9, "momentum": 0.5, "hidden_sizes": (8, 4)}


def test_a_fixed_effective_step_decides_the_learning_rate() -> None:
    arm = Arm("a", {}, {"momentum": [0.0, 0.5, 0.9]}, effective_step=0.5)
    rates = [point.settings["learning_rate"] for point in arm.points()]
    np.testing.assert_allclose(rates, [0.5, 0.25, 0.05])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"log": [1e-4, 1], "points": 5}, [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        ({"linear": [0, 1], "points": 3}, [0, 0.5, 1]),
        (np.array([0.5, 1]), [0.5, 1]),
        (range(2), [0, 1]),
    ],
)
def test_values_are_spaced_evenly(values: Any, expected: list[float]) -> None:
    np.testing.assert_allclose(expand_values("x", values), expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "x varies over no values"),
        ([0.1, 0.2, 0.1], "x varies over 0.1 twice"),
        (0.1, "expected a list of values"),
        ("abc", "expected a list of values"),
        ({"log": [0, 1], "points": 5}, "on a log scale; expected numbers above zero"),
        ({"log": [-1, 1], "points": 5}, "numbers above zero"),
        ({"log": [1, 0.1], "points": 5}, "a lower and then a higher number"),
        ({"linear": [0, float("inf")], "points": 5}, "from 0 to inf"),
        ({"log": [0.1, 1], "points": 1}, "points = 1; allowed: a whole number from 2"),
        ({"log": [0.1, 1], "points": 10**9}, "points = 1000000000"),
        ({"log": [0.1, 1]}, "expected a list, or"),
        ({"log": [0.1], "points": 3}, "expected two numbers"),
        ({"log": ["a", "b"], "points": 3}, "expected two numbers"),
        ({"cube": [0.1, 1], "points": 3}, "expected a list, or"),
    ],
)
def test_grids_that_are_not_valid_are_refused(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expand_values("x", values)


@pytest.mark.parametrize(
    ("value", "label"), [((), "none"), ((64, 8), "64-8"), (0.1, "0.1"), (1e-05, "1e-05"), (3, "3"), ("adam", "adam")]
)
def test_labels_are_short(value: Any, label: str) -> None:
    assert as_label(value) == label
