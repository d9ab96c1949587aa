"""Which cases of a parametrized test the quick suite runs."""

from collections.abc import Container, Iterable
from typing import Any

import pytest

# One optimizer of each kind: plain, averages of one and two orders, signs, factors and roots of matrices, two sequences
# of parameters, curvature of the policy, and no learning rate.
OF_EACH_KIND = (
    "sgd",
    "momentum",
    "adam",
    "lion",
    "adafactor",
    "muon",
    "schedule_free_adamw",
    "shampoo",
    "kfac",
    "prodigy",
)


def quick(quick_cases: Container[Any], cases: Iterable[Any]) -> list[Any]:
    """``cases`` for ``pytest.mark.parametrize``; those that are not in ``quick_cases`` are slow."""
    return [case if case in quick_cases else _slow(case) for case in cases]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
