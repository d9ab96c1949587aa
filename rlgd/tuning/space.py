"""The space of a search: for each hyper-parameter a list of choices or a range."""

import json
import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rlgd.errors import UsageError
from rlgd.studies.arms import SPACINGS, as_label, bounds, expand_values

if TYPE_CHECKING:
    import optuna


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both included; whole numbers if both ends are. ``log``: on a log scale."""

    low: float
    high: float
    log: bool


Dimension: TypeAlias = Range | tuple[Any, ...]


def dimension(name: str, values: Any) -> Dimension:
    """The dimension of a hyper-parameter.

    Args:
        name: of the hyper-parameter, for messages.
        values: a list of choices, or ``{"log": [low, high]}``, or the same with "linear".

    Raises:
        UsageError: if there are no values, or the range is not valid.
    """
    if not isinstance(values, Mapping):
        return expand_values(name, values)
    if len(values) != 1 or not values.keys() <= set(SPACINGS):
        raise UsageError(f'{name} is searched over {dict(values)!r}; expected a list, or {{"log": [low, high]}}.')
    ((spacing, ends),) = values.items()
    low, high = bounds(name, spacing, ends)
    whole = all(isinstance(end, numbers.Integral) for end in ends)
    return Range(int(low), int(high), spacing == "log") if whole else Range(low, high, spacing == "log")


def suggest_value(trial: "optuna.Trial", name: str, dimension: Dimension) -> Any:
    """The value of a hyper-parameter that Optuna suggests for a trial."""
    if not isinstance(dimension, Range):
        return _from_journal(dimension, trial.suggest_categorical(name, [_to_journal(value) for value in dimension]))
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def _to_journal(value: Any) -> str:
    """A choice as text: Optuna's journal cannot store tuples."""
    return json.dumps(value)


def _from_journal(dimension: Dimension, stored: Any) -> Any:
    if isinstance(dimension, Range):
        return stored
    return next(value for value in dimension if _to_journal(value) == stored)


def values_of(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a trial, from its parameters in Optuna's journal."""
    return {name: _from_journal(dimension, params[name]) for name, dimension in space.items() if name in params}


def values_in_words(values: Mapping[str, Any]) -> str:
    """The values of a trial for people."""
    return " ".join(f"{name}={as_label(value)}" for name, value in values.items())
