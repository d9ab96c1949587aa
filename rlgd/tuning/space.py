"""What a search ranges over."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from rlgd.errors import UsageError
from rlgd.studies.arms import SPACINGS, bounds, spaced


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both included; whole ones if both ends are."""

    low: float
    high: float
    log: bool


Dimension: TypeAlias = Range | tuple[Any, ...]


def dimension(name: str, values: Any) -> Dimension:
    """What a setting is searched over: a list of values, or ``{"log": [low, high]}``, or the same with "linear".

    Raises:
        UsageError: for no values, or a range that does not exist.
    """
    if not isinstance(values, Mapping):
        return spaced(name, values)
    if len(values) != 1 or not values.keys() <= set(SPACINGS):
        raise UsageError(f'{name} is searched over {dict(values)!r}; expected a list, or {{"log": [low, high]}}.')
    ((spacing, ends),) = values.items()
    low, high = bounds(name, spacing, ends)
    whole = all(isinstance(end, int) for end in ends)
    return Range(int(low), int(high), spacing == "log") if whole else Range(low, high, spacing == "log")


def suggest_value(trial: Any, name: str, values: Dimension) -> Any:
    if not isinstance(values, Range):
        return _value(values, trial.suggest_categorical(name, [_label(value) for value in values]))
    suggest = trial.suggest_int if isinstance(values.low, int) else trial.suggest_float
    return suggest(name, values.low, values.high, log=values.log)


def _label(value: Any) -> str:
    """How a choice stands in the journal, which knows no tuples."""
    return json.dumps(value)


def _value(values: Dimension, stored: Any) -> Any:
    return stored if isinstance(values, Range) else next(value for value in values if _label(value) == stored)


def values_of(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(values, params[name]) for name, values in space.items() if name in params}
