"""Hyper-parameters as frozen pytree dataclasses: which ones are traced, which are static, and the range of each.

A *traced* field enters arithmetic: it is a leaf of the pytree, so it can be stacked, vmapped and changed without a new
compilation. A *static* field decides a shape or a Python branch: it is part of the tree's structure. A *nested* field
is a part: a hyper-parameter class itself.

Every hyper-parameter also has a flat name, the name of its field alone: ``learning_rate`` of an agent is
``agent.ascent.rule.learning_rate``. Flat names are for writing: constructors, ``dataclasses.replace``,
``with_values``, flags, studies and files take them. Code reads a value through its part.
"""

import dataclasses
import inspect
import itertools
import operator
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from rlgd.errors import UsageError, unknown
from rlgd.plugins import Kind, remember

T = TypeVar("T")


def count(text: str) -> int:
    """A whole number as people write it: 100000, 100_000, 1e5, 100k, 2M.

    Raises:
        ValueError: if the text is not a whole number.
    """
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    number = float(text[:-1] if factor > 1 else text) * factor
    if not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def traced(default: Any, doc: str, within: str = "(-inf, inf)", only_in_init: bool = False) -> Any:
    """A number that enters arithmetic. ``within`` is its range in interval notation, such as ``"[0, 1)"``.

    ``only_in_init``: nothing but the initialization depends on it, so a resumed run cannot change it.
    """
    return _field(default, doc, static=False, within=within, resumable=not only_in_init)


def static(
    default: Any,
    doc: str,
    within: str | None = None,
    choices: tuple[str, ...] | None = None,
    *,
    resumable: bool = False,
    decides_result: bool = True,
    count: bool = False,
    flag: str | None = None,
    kind: Kind | None = None,
    implies: Callable[[Any], Mapping[str, Any]] | None = None,
) -> Any:
    """A value that decides a shape or a branch.

    Args:
        default: its default.
        doc: its sentence in the help.
        within: the range of a number, or of each number of a tuple, in interval notation.
        choices: the names that are allowed; of a ``kind`` its own ones, beside parts of users.
        resumable: whether a resumed run may change it.
        decides_result: whether the result of a run depends on it.
        count: whether the command line reads it with ``count``: 100k, 1e5.
        flag: its name on the command line, where that is not the field's own.
        kind: of parts of users, where it may be one: an object, or its name.
        implies: from its value to those that other fields then take where they are not given, by flat name.
    """
    return _field(
        default,
        doc,
        static=True,
        within=within,
        choices=choices if kind is None else tuple(kind.own),
        resumable=resumable,
        decides_result=decides_result,
        count=count,
        flag=flag,
        kind=kind,
        implies=implies,
    )


def _field(default: Any, doc: str, **metadata: Any) -> Any:
    usual = {"choices": None, "decides_result": True, "count": False, "flag": None, "kind": None, "implies": None}
    return dataclasses.field(default=default, metadata={"doc": doc, **usual, **metadata})


def nested(default: Any) -> Any:
    """A part: a field that is itself a hyper-parameter class. Its fields keep their flat names."""
    return dataclasses.field(default=default, metadata={"nested": True})


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The named attributes as a tuple. It runs in every call of a compiled function that takes the configuration."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda config: tuple(getattr(config, name) for name in names)


@typing.dataclass_transform(frozen_default=True)
def hyperparameters(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass and a pytree whose leaves are its traced fields.

    The constructor of a class with parts takes flat names too: ``PPO(learning_rate=1e-3, num_envs=16)``. A flat name
    given beside its part changes that part: ``PPO(ascent=tuned, learning_rate=1e-3)``. Type checkers know only the
    declared fields; where flat names are the usual way, the class declares its own ``__init__`` for them.
    A list for a static field becomes a tuple.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    direct_init = vars(cls)["__init__"]
    names: dict[bool, list[str]] = {False: [], True: []}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        names[field.metadata.get("static", False)].append(field.name)
    keys = [jax.tree_util.GetAttrKey(name) for name in names[False]]
    traced_values, static_values = _getter(names[False]), _getter(names[True])

    def flatten(config: T) -> tuple[tuple[Any, ...], Any]:
        # The class is one of the static values: without it the structures of two classes with equal static values
        # would be equal, and jit could take the program of one for the other.
        return traced_values(config), (cls, *static_values(config))

    def flatten_with_keys(config: T) -> tuple[list[Any], Any]:
        leaves, fixed = flatten(config)
        return list(zip(keys, leaves, strict=True)), fixed

    def unflatten(fixed: Any, leaves: Iterable[Any]) -> T:
        config = object.__new__(cls)
        values = itertools.chain(zip(names[True], fixed[1:], strict=True), zip(names[False], leaves, strict=True))
        direct_init(config, **dict(values))
        return config

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    _take_flat_names(cls, direct_init, frozenset(names[True]))
    cls.__doc__ = documented(cls)
    return cls


def _take_flat_names(cls: type[Any], direct_init: Callable[..., None], static_names: frozenset[str]) -> None:
    """Give ``cls`` a constructor that takes fields and flat names; positional arguments are flat names in order."""
    direct = frozenset(field.name for field in dataclasses.fields(cls))
    implying = {field.name for field in dataclasses.fields(cls) if field.metadata.get("implies")}

    def init(self: Any, *positional: Any, **values: Any) -> None:
        implied = not implying.isdisjoint(values) and not direct.issubset(values)
        if positional or implied or not direct.issuperset(values):
            values = _direct_values(cls(), positional, values)
        direct_init(
            self, **{name: _hashable(value) if name in static_names else value for name, value in values.items()}
        )

    flat = list(_flat_defaults(cls))
    names = [name for name, _ in flat]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TypeError(f"{cls.__name__} declares {', '.join(twice)} twice, also in a part; flat names must be unique.")
    init.__name__, init.__qualname__ = "__init__", f"{cls.__qualname__}.__init__"
    cls.__init__ = init
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, default=default) for name, default in flat]
    cls.__signature__ = inspect.Signature(parameters)  # for help() and completion


def _hashable(value: Any) -> Any:
    """A value of a static field, which is part of a tree's structure: a list of numbers as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _flat_defaults(config: Any) -> Iterator[tuple[str, Any]]:
    """Flat names and values of a configuration, or of the defaults of a class, which may be abstract."""
    for field in dataclasses.fields(config):
        value = field.default if isinstance(config, type) else getattr(config, field.name)
        if field.metadata.get("nested"):
            yield from _flat_defaults(value)
        else:
            yield field.name, value


def _direct_values(default: Any, positional: tuple[Any, ...], values: dict[str, Any]) -> dict[str, Any]:
    """The values of all direct fields, where some are given by position or by a flat name."""
    names, who = [name for name, _ in _flat_defaults(default)], type(default).__name__
    if len(positional) > len(names):
        raise UsageError(f"{who} has {len(positional)} positional values; allowed: at most {len(names)}.")
    by_position = dict(zip(names, positional, strict=False))
    if twice := by_position.keys() & values.keys():
        raise UsageError(f"{who} has {', '.join(sorted(twice))} twice, by position and by name; give it once.")
    direct = [field.name for field in dataclasses.fields(default)]
    parts_first = sorted((by_position | values).items(), key=lambda item: item[0] not in direct)
    whole = with_values(default, dict(parts_first))
    return {name: getattr(whole, name) for name in direct}


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
        implies = flat[name].field.metadata["implies"] if name in flat else None
        for other, brought in ({} if implies is None else implies(value)).items():
            if other not in values and other in flat:  # a part alone has not all of them
                config = _replaced(config, flat[other].path, brought)
    return config


def _replaced(config: Any, path: tuple[str, ...], value: Any) -> Any:
    head, *rest = path
    if rest:
        value = _replaced(getattr(config, head), tuple(rest), value)
    return dataclasses.replace(config, **{head: value})


def to_dict(config: Any) -> dict[str, Any]:
    """The hyper-parameters as plain Python values by flat name, ready for JSON; parts of users by their names."""

    def plain(flat: FlatField) -> Any:
        kind = flat.field.metadata["kind"]
        return _plain(flat.value) if kind is None or flat.value is None else kind.name(flat.value)

    return {name: plain(flat) for name, flat in flat_fields(config).items()}


def remember_parts(config: Any) -> None:
    """Let files of this process name the parts of users in a configuration that are given as objects."""
    for _, field, _, value in flat_fields(config).values():
        if field.metadata["kind"] is not None and value is not None and not isinstance(value, str):
            remember(value)


def changed(config: Any) -> dict[str, Any]:
    """The hyper-parameters that are not the defaults of the configuration's class, as plain values."""
    default = to_dict(type(config)())
    return {name: value for name, value in to_dict(config).items() if value != default[name]}


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
        stacked = isinstance(value, list) and name in flat and not flat[name].field.metadata["static"]
        return np.asarray(value) if stacked else value

    return with_values(config, {name: restored(name, value) for name, value in values.items()})


def as_arrays(config: T) -> T:
    """Every traced value as a strongly typed array of JAX's default float type.

    ``2``, ``2.0`` and ``jnp.float32(2)`` are three different types to a tracer and would compile three times.
    """
    dtype = jax.dtypes.canonicalize_dtype(float)
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, dtype), config)


def documented(cls: type) -> str:
    """The docstring of a hyper-parameter class with a section ``Attributes``, made from the metadata of its fields.

    The fields of a part are listed as ``part.field``; of a part that has parts itself only the name of its class.
    """
    wrapped = textwrap.TextWrapper(100, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False)
    lines = [inspect.cleandoc(cls.__doc__ or ""), "", "Attributes:"]
    for text in itertools.chain(*(_described(field) for field in dataclasses.fields(cls))):
        lines += wrapped.wrap(text)
    return "\n".join(lines)


def _described(field: dataclasses.Field[Any], part: str = "") -> Iterator[str]:
    meta, default = field.metadata, typing.cast(Any, field.default)
    if not meta.get("nested"):
        choices, within = meta.get("choices"), meta.get("within")
        allowed = f"; one of {', '.join(choices)}" if choices else f"; in {within}" if within else ""
        about = f"{inspect.formatannotation(field.type)}, default {default!r}"
        yield f"{part}{field.name} ({about}): {meta['doc']}{allowed}."
    elif any(inner.metadata.get("nested") for inner in dataclasses.fields(default)):
        kind = type(default).__name__
        yield f"{field.name} ({kind}): see {kind}; its fields are reached by their own names too."
    else:
        for inner in dataclasses.fields(default):
            yield from _described(inner, f"{field.name}.")
