"""Checks of hyper-parameters against the types, choices and ranges that they were declared with."""

import numbers
import typing
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rlgd.errors import UsageError, shown, unknown
from rlgd.hyperparameters import flat_fields

# Numbers of a tuple, such as layers, and characters of a text, such as a schedule: what is longer compiles for hours.
MAX_ITEMS, MAX_TEXT = 100, 10_000


def validate(config: Any) -> None:
    """Check every hyper-parameter against its declared range; stacked values are checked element by element.

    Raises:
        UsageError: naming the field, what was given and what is allowed.
    """
    for name, (_, field, annotation, value) in flat_fields(config).items():
        optional = field.default is None or type(None) in typing.get_args(annotation)
        if not (optional and value is None):
            _check(name, value, field.metadata, annotation)


def _check(name: str, value: Any, meta: Mapping[str, Any], annotation: Any) -> None:
    if (kind := meta.get("kind")) is not None:
        kind.check_value(value)
    elif meta.get("choices"):
        if value not in meta["choices"]:
            raise unknown(name, value, meta["choices"])
    elif annotation is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{name} is {shown(value)}; allowed: True or False.")
    elif annotation == tuple[str, ...]:
        if not (isinstance(value, tuple) and all(isinstance(item, str) for item in value)):
            raise UsageError(f"{name} is {shown(value)}; allowed: a tuple of names.")
    elif annotation is str:
        if not isinstance(value, str):
            raise UsageError(f"{name} is {shown(value)}; allowed: text.")
        if len(value) > MAX_TEXT:
            raise UsageError(f"{name} has {len(value):,} characters; allowed: at most {MAX_TEXT:,}.")
    elif meta.get("within"):
        whole = meta["static"] and float not in (annotation, *typing.get_args(annotation))
        kind, what = (numbers.Integral, "a whole number") if whole else (numbers.Real, "a number")
        several = typing.get_origin(annotation) is tuple
        if several != isinstance(value, tuple):
            raise UsageError(f"{name} is {shown(value)}; allowed: {f'a tuple, each {what}' if several else what}.")
        if several and len(value) > MAX_ITEMS:
            raise UsageError(f"{name} has {len(value):,} numbers; allowed: at most {MAX_ITEMS}.")
        items = value if several else np.ravel(np.asarray(value, dtype=object))
        for number in (item.item() if isinstance(item, jax.Array | np.generic) else item for item in items):
            if not isinstance(number, kind) or isinstance(number, bool) or not contains(meta["within"], number):
                raise UsageError(f"{name} is {shown(number)}; allowed: {what} within {meta['within']}.")
            if isinstance(number, int) and abs(number) >= 2**63:
                raise UsageError(f"{name} is {shown(number)}; allowed: {what} below 2**63.")


def contains(interval: str, number: Any) -> bool:
    """Whether a number lies in an interval such as ``"[0, 1)"``; NaN lies in none."""
    low, high = (float(part) for part in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    return bool(above and below)
