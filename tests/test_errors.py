from typing import Any

import pytest

from rlgd import errors
from rlgd.errors import Diverged, EnvironmentFault, RlgdError, StorageFault, UsageError, unknown


@pytest.mark.parametrize(
    ("error", "code"), [(RlgdError, 1), (UsageError, 2), (EnvironmentFault, 3), (Diverged, 4), (StorageFault, 5)]
)
def test_exit_codes(error: type[RlgdError], code: int) -> None:
    assert error("why").exit_code == code
    assert isinstance(error("why"), RlgdError)
    assert str(error("why")) == "why"


def test_a_usage_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="why"):
        raise UsageError("why")


@pytest.mark.parametrize(
    ("given", "known", "message"),
    [
        ("adma", ["sgd", "adam"], "unknown rule 'adma'; did you mean 'adam'?"),
        ("ADAM", ["sgd", "adam"], "unknown rule 'ADAM'; did you mean 'adam'?"),
        ("cartpole-v1", ["CartPole-v1", "Hopper-v5"], "unknown rule 'cartpole-v1'; did you mean 'CartPole-v1'?"),
        ("adamx", ["adam", "adamw", "sgd"], "unknown rule 'adamx'; did you mean 'adam' or 'adamw'?"),
        ("xyz", ["b", "a"], "unknown rule 'xyz'; known: a, b."),
        (7, ["b", "a"], "unknown rule 7; known: a, b."),
    ],
)
def test_unknown_names_the_nearest_or_lists_all(given: str, known: list[str], message: str) -> None:
    error = unknown("rule", given, iter(known))
    assert isinstance(error, UsageError)
    assert str(error) == message


@pytest.mark.parametrize("value", [-1, 1.5, True, None, "3", pytest.param(-(10**5000), id="huge")])
def test_what_is_no_whole_number_is_refused_however_long_it_is(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^n is .*; allowed: a whole number from 0\.$") as refusal:
        errors.whole_number("n", value)
    assert len(str(refusal.value)) <= errors.MAX_MESSAGE


def test_a_long_message_loses_its_middle() -> None:
    text = str(UsageError(f"name {'x' * 40_000} is too long"))
    assert len(text) == errors.MAX_MESSAGE
    assert text.startswith("name xxx")
    assert text.endswith("xxx is too long")
