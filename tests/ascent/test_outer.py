"""The outer step's settings: either field asks for it, the other then changes nothing."""

import pytest

from rlgd.ascent import Ascent, Outer


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        (Outer(), Outer()),
        (Outer(outer_learning_rate=0.5), Outer(0.5, 0.0)),
        (Outer(outer_momentum=0.5), Outer(1.0, 0.5)),
        (Outer(0.5, 0.9), Outer(0.5, 0.9)),
        (Outer(outer_momentum=0.0), Outer(1.0, 0.0)),
    ],
)
def test_either_field_asks_for_an_outer_step(given: Outer, resolved: Outer) -> None:
    assert given.resolved() == resolved
    assert given.is_set == resolved.is_set == (given != Outer())


def test_the_outer_ascent_is_nesterov_with_these_numbers_and_nothing_else() -> None:
    ascent = Ascent("adam", 0.1, l2=1.0, max_grad_norm=1.0, schedule="linear", outer_momentum=0.5)
    assert ascent.outer_ascent() == Ascent("nesterov", 1.0, 0.5).resolved()
    assert Ascent("adam").outer_ascent() is None
