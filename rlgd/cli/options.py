"""Options: how a command declares them, and the flags that they become."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

from rlgd.errors import UsageError, unknown
from rlgd.run.sinks.registry import KIND

T = TypeVar("T", bound="CommandOptions")


def flag(default: Any, doc: str, metavar: str | None = None, *, group: str = "flags", count: bool = False) -> Any:
    """A field that becomes a flag.

    Args:
        default: its default.
        doc: its sentence in the help.
        metavar: what stands for its value in the help; None: its type.
        group: its heading in the help.
        count: whether its value may be written as 100k or 1e5.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, "metavar": metavar, "group": group, "count": count})


def sinks_flag() -> Any:
    """The field ``sink`` of the commands whose runs others may see."""
    doc = "a sink of `rlgd list sinks`; give it again for more"
    return dataclasses.field(default=(), metadata={"doc": doc, "metavar": "NAME", "group": "output", "kind": KIND})


def positional(metavar: str, doc: str, read: Callable[[str, str], str] | None = None) -> Any:
    """A field that comes first on the command line, without the name of a flag.

    Args:
        metavar: what stands for it in the help.
        doc: its sentence in the help.
        read: the value from the name of the command and the word; it refuses what cannot be meant.
    """
    return dataclasses.field(default="", metadata={"doc": doc, "metavar": metavar, "positional": True, "read": read})


def part(only: Callable[[Mapping[str, Any]], bool] = lambda metadata: True) -> dict[str, Any]:
    """Metadata of a field with a hyper-parameter class, whose flat fields become flags.

    Its default is ``UNKNOWN``: ``Options.defaults`` fills it in. ``only`` chooses fields by their metadata.
    """
    return {"part": True, "only": only}


UNKNOWN: Any = None  # a part before the command line has said which class it is of


@dataclasses.dataclass(frozen=True)
class CommandOptions:
    """The options of a command: its fields made by ``flag`` and ``positional``, or with the metadata of ``part``.

    Attributes:
        given: what the command line says, by the names of flags.
    """

    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Self:
        """What holds for flags that are not given; it may depend on those that are."""
        return cls()

    def notes(self) -> str:
        """What the help says beside the flags."""
        return ""


class Computing(NamedTuple):
    """How JAX computes, by the flags of ``OutputOptions``; see there."""

    device: str | None
    deterministic_ops: bool
    autotune: str | None
    matmul_precision: str | None


@dataclasses.dataclass(frozen=True)
class OutputOptions(CommandOptions):
    """Options of every command that runs something."""

    device: str | None = flag(None, "cpu or gpu; the default is a GPU if there is one", "cpu|gpu", group="output")
    deterministic_ops: bool = flag(
        False, "the same bits from every run on a GPU, at some cost in speed", group="output"
    )
    autotune: str | None = flag(
        None,
        "whether compiling for a GPU tries several kernels for each product of matrices; the default is off for "
        "networks of up to 256 units",
        "on|off",
        group="output",
    )
    matmul_precision: str | None = flag(
        None,
        "how exactly a GPU multiplies matrices: default is JAX's own, TF32 with 10 bits after the point; highest is "
        "32-bit floats",
        "default|high|highest",
        group="output",
    )
    quiet: bool = flag(False, "print nothing but the result", group="output")
    json: bool = flag(False, "print one JSON document on standard output, and nothing else there", group="output")
    debug: bool = flag(False, "show the traceback of a failure", group="output")
    trust: str | None = flag(None, "import and call what files name of this package", "PACKAGE", group="output")

    @property
    def computing(self) -> Computing:
        """The flags that say how JAX computes."""
        return Computing(*(getattr(self, name) for name in Computing._fields))


class Processes(NamedTuple):
    """The processes that train together, by the flags of ``RunOptions``; see there."""

    distributed: bool
    coordinator: str | None
    num_processes: int | None
    process_id: int | None


@dataclasses.dataclass(frozen=True)
class RunOptions(OutputOptions):
    """Options of the commands that train one run."""

    sink: tuple[str, ...] = sinks_flag()
    distributed: bool = flag(
        False, "this is one of several processes that a scheduler started (Slurm, MPI, Kubernetes)", group="run"
    )
    coordinator: str | None = flag(
        None, "without a scheduler: where process 0 listens for the others", "HOST:PORT", group="run"
    )
    num_processes: int | None = flag(None, "how many processes train together", "N", group="run")
    process_id: int | None = flag(None, "which of them this is, from 0", "N", group="run")

    @property
    def processes(self) -> Processes | None:
        """The processes that train together; None for a single one.

        Raises:
            UsageError: if the flags do not say which they are.
        """
        chosen = Processes(*(getattr(self, name) for name in Processes._fields))
        given = [chosen.coordinator, chosen.num_processes, chosen.process_id]
        if all(value is None for value in given):
            return chosen if chosen.distributed else None
        if any(value is None for value in given):
            raise UsageError("--coordinator, --num-processes and --process-id belong together; one of them is missing.")
        assert chosen.num_processes is not None
        assert chosen.process_id is not None
        if chosen.num_processes < 1:
            raise UsageError(f"num_processes is {chosen.num_processes}; allowed: a whole number from 1.")
        if not 0 <= chosen.process_id < chosen.num_processes:
            raise UsageError(
                f"process_id is {chosen.process_id}; allowed: 0 to {chosen.num_processes - 1}, as num_processes says."
            )
        return chosen


class Flag(NamedTuple):
    """An option on the command line.

    Attributes:
        name: as the command line and files of flags have it, with underscores.
        path: of the field: the field's name, or the part's and then those of the hyper-parameter class.
        kind: the type of its value.
        default: its default.
        metadata: of the field.
    """

    name: str
    path: tuple[str, ...]
    kind: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def is_positional(self) -> bool:
        """Whether it has no name on the command line."""
        return self.metadata.get("positional", False)


def flags_of(options: CommandOptions) -> dict[str, Flag]:
    """The flags of a command by their names: its own fields, and the flat fields of its hyper-parameter classes."""
    flags = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if "doc" in field.metadata:
            flags.append(Flag(field.name, (field.name,), field.type, value, field.metadata))
        elif field.metadata.get("part") and value is not UNKNOWN:
            from rlgd.hyperparameters import flat_fields

            for name, (path, leaf, annotation, default) in flat_fields(value).items():
                if field.metadata["only"](leaf.metadata):
                    called = leaf.metadata.get("flag") or name
                    flags.append(Flag(called, (field.name, *path), annotation, default, leaf.metadata))
    return {flag.name: flag for flag in flags}


def filled(options: T, values: Mapping[str, Any]) -> T:
    """The options with other values, by the names of flags.

    Raises:
        UsageError: for a name that is not a flag's.
    """
    flags = flags_of(options)
    by_part: dict[str, dict[str, Any]] = {}
    own = {}
    for name, value in values.items():
        if name not in flags:
            raise unknown("flag", name, flags)
        part_of, *rest = flags[name].path
        if rest:
            by_part.setdefault(part_of, {})[rest[-1]] = _key_values(value) if is_mapping(flags[name].kind) else value
        else:
            own[name] = value
    from_parts = {}
    for name, changes in by_part.items():
        from rlgd.hyperparameters import with_values

        from_parts[name] = with_values(getattr(options, name), changes)
    return dataclasses.replace(options, **own, **from_parts)


def is_mapping(kind: Any) -> bool:
    """Whether values of a type are mappings, which the command line writes as key=value."""
    return any((typing.get_origin(member) or member) in (Mapping, dict) for member in members(kind))


def members(kind: Any) -> tuple[Any, ...]:
    """The types that a union allows; of any other type, that type."""
    return typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)


def _key_values(given: Any) -> Any:
    words = isinstance(given, tuple) and all(isinstance(word, str) for word in given)
    return dict(map(key_value, given)) if words else given


def json_or_text(text: str) -> Any:
    """A value as JSON if it is, else as text."""
    from rlgd.system.reading import parse_json

    try:
        return parse_json(text, object)
    except ValueError:
        return text


def key_value(text: str, flag: str = "--env-arg") -> tuple[str, Any]:
    """``key=value``, the value as JSON if it is, else as text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{flag} {text!r} is not of the form key=value.")
    return key, json_or_text(value)
