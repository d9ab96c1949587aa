"""The command line as tyro reads it.

The word after the command (an agent, a run) decides which flags there are, so it is read first. All flags are then read
at once, and what the user gave is kept apart from the defaults.
"""

import contextlib
import dataclasses
import io
import itertools
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro

from rlgd.cli import help_page, near_misses
from rlgd.cli.options import CommandOptions, Flag, filled, flags_of, is_mapping, members
from rlgd.errors import UsageError
from rlgd.system.log import log

T = TypeVar("T", bound=CommandOptions)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The flags that every command has, which are needed before the others are read."""

    help: Annotated[bool, tyro.conf.arg(aliases=("-h",))] = False
    help_all: bool = False
    quiet: bool = False
    json: bool = False
    debug: bool = False


def asked(words: Sequence[str]) -> Asked:
    """The common flags among the words of a command line; other words are ignored."""
    return tyro.cli(Asked, args=words, return_unknown_args=True, add_help=False)[0]


def trusted(words: Sequence[str]) -> str | None:
    """The package that ``--trust`` names; where the flag has no value, reading all flags says so."""
    for word, following in itertools.zip_longest(words, words[1:]):
        name, equals, value = word.partition("=")
        if name == "--trust":
            return value if equals else following
    return None


def help_text(name: str, options: type[CommandOptions], words: Sequence[str], asked: Asked) -> str | None:
    """The help of a command, with the defaults that apply to what is given.

    None if the words do not ask for it; a command that needs a positional argument shows it if there are no words.

    Raises:
        UsageError: if the first word is not an agent, or not a run.
    """
    positional = _positional(options)
    if not (asked.help or asked.help_all) and (words or positional is None):
        return None
    first = _first(positional, words)
    if first is None:
        return help_page.page(name, options(), {}, asked.help_all)
    meant = _meant(name, positional, first)
    given = _given(f"rlgd {name}", flags_of(options.defaults(meant)), words, strict=False) | meant
    return help_page.page(name, options.defaults(given), first, asked.help_all)


def parse(name: str, options: type[T], words: Sequence[str]) -> T:
    """The options of a command: what is given, and the defaults of the rest.

    Raises:
        UsageError: for a mistake.
    """
    positional = _positional(options)
    first = _first(positional, words)
    if first is None:
        what = positional.metadata["metavar"] if positional else ""
        example = f" For example `{near_misses.with_agent(name, words)}`." if what == "AGENT" and words else ""
        raise UsageError(f"{what} comes first: {help_page.usage(name, {})}.{example}")
    meant = _meant(name, positional, first)
    flags = flags_of(options.defaults(meant))
    given = _given(help_page.called(name, first), flags, words, strict=True) | meant
    if meant != first:
        log.info("%s takes %s, the newest run below %s", name, *meant.values(), *first.values())
    for flag, value in given.items():
        if (kind := flags[flag].metadata.get("kind")) is not None:
            for name in value if isinstance(value, tuple) else (value,):
                if ":" in str(name):
                    kind.named(name)  # what the user typed may be imported
    return dataclasses.replace(filled(options.defaults(given), given), given=given)


def _positional(options: type[CommandOptions]) -> Flag | None:
    return next((flag for flag in flags_of(options()).values() if flag.is_positional), None)


def _first(positional: Flag | None, words: Sequence[str]) -> dict[str, str] | None:
    """The positional argument by its name, none if the command has none; None if it is missing."""
    if positional is None:
        return {}
    kind = typed("first", {positional.name: Annotated[str, tyro.conf.Positional]}, total=True)
    try:
        first, _ = tyro.cli(kind, args=words, return_unknown_args=True, add_help=False, console_outputs=False)
    except SystemExit:
        return None
    return first


def _meant(command: str, positional: Flag | None, first: Mapping[str, str]) -> dict[str, str]:
    """What the positional argument means.

    Raises:
        UsageError: if it cannot be meant.
    """
    read = positional.metadata["read"] if positional else None
    return {name: read(command, word) for name, word in first.items()} if read else dict(first)


def _given(prog: str, flags: Mapping[str, Flag], words: Sequence[str], strict: bool) -> dict[str, Any]:
    """The flags that the words give, by name. If not ``strict``, unknown words are left out instead of refused."""
    kind = typed("given", {name: argument(flag) for name, flag in flags.items()}, total=False)
    none: dict[str, Any] = {name: () for name, flag in flags.items() if _is_repeated(flag)}
    if strict:
        box = io.StringIO()
        try:
            with contextlib.redirect_stderr(box):
                given = tyro.cli(kind, args=words, prog=prog, default=none)
        except SystemExit as mistake:
            wrong = _right_line(kind, prog, words, none, flags) or _without_box(box.getvalue())
            raise UsageError(f"{wrong} `{prog} --help` shows all flags.") from mistake
    else:
        given, _ = tyro.cli(kind, args=words, prog=prog, default=none, return_unknown_args=True, add_help=False)
    for name in none.keys() & given.keys():
        given[name] = tuple(itertools.chain.from_iterable(given[name]))
    return {name: value for name, value in given.items() if name not in none or value != none[name]}


def _right_line(kind: Any, prog: str, words: Sequence[str], none: Any, flags: Mapping[str, Flag]) -> str | None:
    """What should have been typed, where words that no flag takes are all that is wrong, and it is known."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it has been read before, and was not what is said now
            given, strangers = tyro.cli(
                kind, args=words, prog=prog, default=none, return_unknown_args=True, add_help=False
            )
    except SystemExit:
        return None
    return near_misses.right_line(prog, strangers, flags, given) if strangers else None


def _is_repeated(flag: Flag) -> bool:
    """Whether the flag takes several words, and may be given again for more of them."""
    return flag.kind == tuple[str, ...] or is_mapping(flag.kind)


def _without_box(box: str) -> str:
    """What tyro says of a mistake, as sentences: its title, its frame and its help texts are left out."""
    lines = [text for line in box.splitlines() if (text := line.strip("│ "))]
    sections: list[list[str]] = [[]]
    for line in lines[1:]:
        if set(line) <= set("─-╰╯"):
            sections.append([])
        else:
            sections[-1].append(line)
    first, more = [*(section for section in sections if section), ["it cannot be read"], [""]][:2]
    what = " ".join(first).replace(" ,", ",").rstrip(".")
    near = [line.split()[0] for line in more if line.startswith("--")] if more[0].startswith("Perhaps") else []
    return f"{what}; did you mean {near[0]}?" if near else f"{what}."


def typed(name: str, arguments: dict[str, Any], total: bool) -> Any:
    """A type that tyro reads into a dictionary, which has only what the command line gives if it is not ``total``."""
    make: Any = typing.TypedDict
    return make(name, arguments, total=total)


def argument(flag: Flag) -> Any:
    """A flag as tyro describes arguments."""
    about = tyro.conf.arg(
        help=help_page.sentence(flag),
        metavar=None if flag.kind is bool else help_page.metavar(flag),
        help_behavior_hint=help_page.default(flag),
    )
    if flag.is_positional:
        return Annotated[_kind(flag), about, tyro.conf.Positional]
    return Annotated[_kind(flag), about]


def _kind(flag: Flag) -> Any:
    """The type that tyro reads."""
    if _is_repeated(flag):
        return Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]
    allowed = members(flag.kind)
    if flag.metadata.get("kind") is not None:
        return str | None if type(None) in allowed else str
    if {str, int} <= {*allowed}:  # the class that declares it reads the number
        return str
    for kind in (int, float):
        if kind in allowed:
            return _number(kind, optional=type(None) in allowed, count=flag.metadata.get("count", False))
    return flag.kind


def _number(kind: type, optional: bool, count: bool) -> Any:
    """The type of a number; if ``optional``, None is one too; ``count`` reads 100k and 1e5 as whole numbers."""

    def read(words: list[str]) -> int | float | None:
        text = words[0]
        if optional and text == "None":
            return None
        try:
            return _count(text) if count else kind(text)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from error

    spec = tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, int | float | None),
        str_from_instance=lambda value: [str(value)],
    )
    return Annotated[kind, spec]


def _count(text: str) -> int:
    from rlgd.hyperparameters import count

    return count(text)
