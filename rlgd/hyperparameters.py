"""Hyper-parameters as frozen pytree dataclasses: what is traced, what is static, and what each may be.

A *traced* field enters arithmetic: it is a leaf of the pytree, so it can be stacked, vmapped and changed without a new
compilation. A *static* field decides a shape or a Python branch: it is part of the tree's structure. Fields of a
nested hyper-parameter class have flat names: ``learning_rate`` of an agent is ``agent.ascent.learning_rate``.
"""

import dataclasses
import inspect
import math
import numbers
import operator
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from rlgd.errors import UsageError, unknown

T = TypeVar("T")


def count(text: str) -> int:
    """A whole number as people write it: 100000, 100_000, 1e5, 100k, 2M.

    Raises:
        ValueError: if it is none.
    """
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    number = float(text[:-1] if factor > 1 else text) * factor
    if not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def traced(default: Any, doc: str, within: str = "(-inf, inf)", only_in_init: bool = False) -> Any:
    """A number that enters arithmetic. ``within`` is its range in interval notation, such as ``"[0, 1)"``.

    ``only_in_init``: what is initialized depends on it and nothing else, so that it cannot change in a resumed run.
    """
    metadata = {"doc": doc, "within": within, "static": False, "only_in_init": only_in_init}
    return dataclasses.field(default=default, metadata=metadata)


def static(default: Any, doc: str, within: str | None = None, choices: tuple[str, ...] | None = None) -> Any:
    """A value that decides a shape or a branch: an integer (or a tuple of them) in ``within``, one of ``choices``."""
    return dataclasses.field(
        default=default, metadata={"doc": doc, "within": within, "choices": choices, "static": True}
    )


def nested(default: Any) -> Any:
    """A field that is itself a hyper-parameter class; its fields are reached by their own, flat names."""
    return dataclasses.field(default=default, metadata={"nested": True})


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The named attributes as a tuple; on the host this is asked for in every step."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda config: tuple(getattr(config, name) for name in names)


@typing.dataclass_transform(frozen_default=True)
def hyperparameters(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass and a pytree whose leaves are its traced fields."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    names: dict[bool, list[str]] = {False: [], True: []}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        names[field.metadata.get("static", False)].append(field.name)
    keys = [jax.tree_util.GetAttrKey(name) for name in names[False]]
    traced_values, static_values = _getter(names[False]), _getter(names[True])

    def flatten(config: T) -> tuple[tuple[Any, ...], Any]:
        # The class stands among the static values: the structures of two classes registered by register_dataclass are
        # equal if their static values are, and jit could take the one's program for the other.
        return traced_values(config), (cls, *static_values(config))

    def flatten_with_keys(config: T) -> tuple[list[Any], Any]:
        leaves, fixed = flatten(config)
        return list(zip(keys, leaves, strict=True)), fixed

    def unflatten(fixed: Any, leaves: Iterable[Any]) -> T:
        return cls(**dict(zip(names[True], fixed[1:], strict=True)), **dict(zip(names[False], leaves, strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    cls.__doc__ = documented(cls)
    return cls


class FlatField(NamedTuple):
    """One hyper-parameter under its flat name."""

    path: tuple[str, ...]
    field: dataclasses.Field[Any]
    annotation: Any
    value: Any


def flat_fields(config: Any) -> dict[str, FlatField]:
    """Every hyper-parameter of a configuration by its flat name, in the order of declaration."""
    return dict(_walk(config, ()))


def _walk(config: Any, path: tuple[str, ...]) -> Iterator[tuple[str, FlatField]]:
    annotations = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.metadata.get("nested"):
            yield from _walk(value, (*path, field.name))
        else:
            yield field.name, FlatField((*path, field.name), field, annotations[field.name], value)


def with_values(config: T, values: Mapping[str, Any]) -> T:
    """A copy of ``config`` with the named hyper-parameters changed; names are flat, or those of nested classes."""
    flat = flat_fields(config)
    direct = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in flat and name not in direct:
            raise unknown("hyper-parameter", name, flat)
        config = _replaced(config, flat[name].path if name in flat else (name,), value)
    return config


def _replaced(config: Any, path: tuple[str, ...], value: Any) -> Any:
    head, *rest = path
    if rest:
        value = _replaced(getattr(config, head), tuple(rest), value)
    return dataclasses.replace(config, **{head: value})


def validate(config: Any) -> None:
    """Check every hyper-parameter against its declared range; stacked values are checked element by element.

    Raises:
        UsageError: naming the field, what was given and what is allowed.
    """
    for name, (_, field, annotation, value) in flat_fields(config).items():
        optional = type(None) in typing.get_args(annotation)
        if not (optional and value is None):
            _check(name, value, field.metadata, annotation)


def _check(name: str, value: Any, meta: Mapping[str, Any], annotation: Any) -> None:
    if meta.get("choices"):
        if value not in meta["choices"]:
            raise unknown(name, value, meta["choices"])
    elif annotation is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{name} is {value!r}; allowed: True or False.")
    elif annotation is str:
        if not isinstance(value, str):
            raise UsageError(f"{name} is {value!r}; allowed: text.")
    elif meta.get("within"):
        kind, what = (numbers.Integral, "a whole number") if meta["static"] else (numbers.Real, "a number")
        several = typing.get_origin(annotation) is tuple
        if several != isinstance(value, tuple):
            raise UsageError(f"{name} is {value!r}; allowed: {f'a tuple, each {what}' if several else what}.")
        items = value if several else np.ravel(np.asarray(value, dtype=object))
        for number in (item.item() if isinstance(item, jax.Array | np.generic) else item for item in items):
            if not isinstance(number, kind) or isinstance(number, bool) or not contains(meta["within"], number):
                raise UsageError(f"{name} is {number!r}; allowed: {what} within {meta['within']}.")


def contains(interval: str, number: Any) -> bool:
    """Whether a number lies in an interval such as ``"[0, 1)"``; NaN lies in none."""
    low, high = (float(part) for part in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    return bool(above and below and not math.isnan(number))


def to_dict(config: Any) -> dict[str, Any]:
    """The hyper-parameters as plain Python values by flat name, ready for JSON."""
    return {name: _plain(flat.value) for name, flat in flat_fields(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        if array.ndim:
            return [_plain(item) for item in array]
        # A float32 prints as the shortest decimal that reads back as the same float32: 0.1, not 0.10000000149.
        return array.item() if array.dtype.kind in "biu" else float(str(array[()]))
    return value


def from_dict(config: T, values: Mapping[str, Any]) -> T:
    """``config`` with the values of a dict that ``to_dict`` made; unknown names are refused."""
    flat = flat_fields(config)

    def restored(name: str, value: Any) -> Any:
        if not isinstance(value, list) or name not in flat:
            return value
        return tuple(value) if flat[name].field.metadata["static"] else np.asarray(value)

    return with_values(config, {name: restored(name, value) for name, value in values.items()})


def as_arrays(config: T) -> T:
    """Every traced value as a strongly typed array of JAX's default float type.

    ``2``, ``2.0`` and ``jnp.float32(2)`` are three different types to a tracer and would compile three times.
    """
    dtype = jax.dtypes.canonicalize_dtype(float)
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, dtype), config)


def documented(cls: type) -> str:
    """The docstring of a hyper-parameter class with a section ``Attributes``, made from the metadata of its fields."""
    wrapped = textwrap.TextWrapper(100, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False)
    lines = [inspect.cleandoc(cls.__doc__ or ""), "", "Attributes:"]
    for field in dataclasses.fields(cls):
        meta = field.metadata
        if meta.get("nested"):
            kind = type(field.default)
            text, about = f"see {kind.__name__}; its fields are reached by their own names too", kind.__name__
        else:
            choices, within = meta.get("choices"), meta.get("within")
            allowed = f"; one of {', '.join(choices)}" if choices else f"; in {within}" if within else ""
            text = meta["doc"] + allowed
            about = f"{inspect.formatannotation(field.type)}, default {field.default!r}"
        lines += wrapped.wrap(f"{field.name} ({about}): {text}.")
    return "\n".join(lines)
