import pytest

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
