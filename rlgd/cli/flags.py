"""How flags are described and read."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

from rlgd.errors import UsageError, unknown


def doc(kind: Any, text: str, default: Any) -> tuple[Any, Any]:
    """A flag: its type with its help text, and its default."""
    import tyro

    return Annotated[kind, tyro.conf.arg(help=text)], default


def counts() -> Any:
    """The type of a flag that takes a number as ``count`` reads it."""
    import tyro

    from rlgd.hyperparameters import count

    spec = tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda args: count(args[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )
    return Annotated[int, spec]


Flags = dict[str, tuple[Any, Any]]


def output_flags() -> Flags:
    """Flags of every command that runs something."""
    return {
        "device": doc(str | None, "cpu or gpu; the default is a GPU if there is one", None),
        "deterministic_ops": doc(bool, "the same bits from every run on a GPU, at some cost in speed", False),
        "quiet": doc(bool, "print nothing but the result", False),
        "json": doc(bool, "print one JSON document on standard output, and nothing else there", False),
        "debug": doc(bool, "show the traceback of a failure", False),
    }


def stopping_flags() -> Flags:
    """The criteria to stop a run."""
    from rlgd.run.stopping import NEVER

    return setting_flags(NEVER)


def saving_flags() -> Flags:
    """How often a run is evaluated and saved."""
    number = counts()
    return {
        "eval_every": doc(
            number | None, "evaluate after so many steps; by default only at the end, or 20 times for a criterion", None
        ),
        "eval_episodes": doc(int, "episodes of each evaluation, in Gymnasium's own environment", 100),
        "checkpoint_every": doc(str, "seconds between checkpoints, such as 60s, or steps, such as 100000", "60s"),
        "keep": doc(int, "how many of the newest checkpoints are kept; the best one is kept apart", 3),
    }


def parse(prog: str, flags: Flags, argv: list[str], description: str) -> Any:
    """Read flags into an object with an attribute for each; unknown ones end the program with exit code 2."""
    import tyro

    fields = [(name, kind, dataclasses.field(default=value)) for name, (kind, value) in flags.items()]
    options = dataclasses.make_dataclass("Options", fields, frozen=True)
    options.__doc__ = description
    return tyro.cli(options, args=argv, prog=prog)


def setting_flags(settings: Any) -> Flags:
    """The fields of a hyper-parameter class as flags, by their flat names."""
    from rlgd.hyperparameters import flat_fields

    flags = {}
    for name, (_, field, annotation, value) in flat_fields(settings).items():
        text = field.metadata["doc"]
        if choices := field.metadata.get("choices"):
            text += f" ({', '.join(choices)})"
        elif within := field.metadata.get("within"):
            text += f", in {within}"
        flags[name] = doc(annotation, text, value)
    return flags


def with_defaults(flags: Flags, values: dict[str, Any]) -> Flags:
    """The flags with other defaults."""
    for name in values:
        if name not in flags:
            raise unknown("flag", name, flags)
    return flags | {name: (flags[name][0], value) for name, value in values.items()}


def is_given(argv: list[str], name: str) -> bool:
    """Whether a flag is there, whatever its value."""
    words = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in argv if word.startswith("--")}
    return name in words or f"no_{name}" in words


def option_value(argv: list[str], name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE`` before the rest is parsed; as there, the last one counts."""
    value = None
    for index, word in enumerate(argv):
        if word == f"--{name}" and index + 1 < len(argv):
            value = argv[index + 1]
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


def take_run(command: str, argv: list[str], flags: Flags, about: str) -> tuple[Path, list[str]]:
    """The run directory in front of the flags, and the flags."""
    run, argv = take_first(command, "RUN", argv, flags, about)
    return Path(run), argv


def take_first(command: str, what: str, argv: list[str], flags: Flags, about: str) -> tuple[str, list[str]]:
    """The word in front of the flags, and the flags; without it, help."""
    if not argv or argv[0] in ("-h", "--help"):
        try:
            parse(f"rlgd {command} {what}", flags, ["--help"], about)
        except SystemExit:
            sys.exit(0 if argv else 2)
    if argv[0].startswith("-"):
        raise UsageError(f"{what} comes first: rlgd {command} {what} [flags].")
    return argv[0], argv[1:]


def json_or_text(text: str) -> Any:
    """A value as JSON if it is, else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def key_value(text: str, flag: str = "--env-arg") -> tuple[str, Any]:
    """``key=value``, the value as JSON if it is, else as text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{flag} {text!r} is not of the form key=value.")
    return key, json_or_text(value)
