"""Completion of the command line in a shell: all commands as one parser, for which tyro writes a script."""

import functools
import operator
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from rlgd.agents import REGISTRY
from rlgd.cli import parser
from rlgd.cli.commands import COMMANDS
from rlgd.cli.options import CommandOptions, flags_of
from rlgd.errors import unknown

SHELLS = ("bash", "zsh", "fish", "tcsh")


def write_script(words: Sequence[str]) -> int:
    """Answer ``--tyro-print-completion SHELL`` or ``--tyro-write-completion SHELL FILE``.

    Raises:
        UsageError: for a shell that tyro does not know.
    """
    shell = words[1] if len(words) > 1 else ""
    if shell not in SHELLS:
        raise unknown("shell", shell, SHELLS)
    commands = {name: _command(name) for name in COMMANDS if " " not in name}
    tyro.cli(_choice(commands), prog="rlgd", args=words)  # ends the program
    return 0


def _command(name: str) -> Any:
    """A command as a type: its flags, or those of each agent where it needs one."""
    options = COMMANDS[name].load().Options
    if name in ("train", "tune"):
        return _choice({agent: _flags(agent, options.defaults({"agent": agent})) for agent in REGISTRY})
    return _flags(name, options())


def _flags(name: str, options: CommandOptions) -> Any:
    arguments = {flag.name: parser.argument(flag) for flag in flags_of(options).values()}
    return parser.typed(name, arguments, total=False)


def _choice(kinds: dict[str, Any]) -> Any:
    """One of several types, by their names on the command line."""
    return functools.reduce(operator.or_, (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items()))
