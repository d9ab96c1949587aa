"""The pages of help: plain text that fits a terminal.

A command with many flags shows the most used ones in full and the names of the others by group; ``--help-all`` shows
all of them in full.
"""

import inspect
import re
import shlex
import shutil
import textwrap
import typing
from collections.abc import Mapping, Sequence

from rlgd.cli.commands import COMMANDS
from rlgd.cli.options import CommandOptions, Flag, flags_of, is_mapping, members
from rlgd.system.commands import as_typed, program

MANY = 30  # flags; a command with more shows most of them by name alone
MOST_USED = 10
FIRST = (  # the order of use; a command shows the first ten of these that it has
    "env", "search", "total_timesteps", "seed", "learning_rate", "optimizer", "momentum", "num_envs", "rollout_length",
    "gamma", "hidden_sizes", "eval_every", "run_dir",
)  # fmt: skip
CHOICES_IN_SHORT = 8  # a longer list of choices is left to --help-all
COLUMN, COMPACT_COLUMN = 28, 15
NARROWEST, WIDEST = 48, 100
NO_BREAK = "\xa0"

# The headings, and which fields stand under them: those of a part of the options, but for some flags.
GROUPS = ("flags", "run", "environment", "agent", "ascent", "network", "evaluation", "engine", "output")
OF_PART = {"settings": "run", "stopping": "run", "env": "environment", "hyperparameters": "agent", "ascent": "ascent"}
OF_FLAG = {
    "act_device": "environment",
    "overlap": "environment",
    "eval_every": "evaluation",
    "eval_episodes": "evaluation",
    "checkpoint_every": "output",
    "keep": "output",
    "measure_every": "output",
    "value_learning_rate": "ascent",
    **dict.fromkeys(
        (
            "network", "value_network", "critic_obs", "hidden_sizes", "activation", "initialization", "compute_dtype",
            "dropout", "memory_width", "memory_window",
            "box_distribution", "box_std", "log_std_init", "sde_sample_freq",
        ),
        "network",
    ),
}  # fmt: skip


def overview() -> str:
    """The page of ``rlgd --help``."""
    lines = ["rlgd: policy gradients as compiled gradient ascent.", "", "usage: rlgd COMMAND [arguments]", ""]
    for name, command in COMMANDS.items():
        lines += _entry(f"{name} {command.arguments}".strip(), command.about, 36)
    own, tensorboard = program("rlgd", "rlgd"), program("tensorboard", "tensorboard.main")
    for text in AFTER_COMMANDS:
        lines += ["", *textwrap.wrap(as_typed(text), _width(), break_on_hyphens=False)]
    lines += ["", *(f"  {own} {example}" for example in EXAMPLES), f"  {tensorboard} --logdir runs"]
    return "\n".join(lines) + "\n"


AFTER_COMMANDS = (
    "`rlgd COMMAND --help` and `rlgd train AGENT --help` explain the flags. `rlgd --tyro-print-completion SHELL` "
    "prints a completion script for bash, zsh or fish.",
    "To begin with, train an agent, train it with another momentum, ask what momentum does, and see the curves:",
)
EXAMPLES = (
    "train ppo --env CartPole-v1",
    "train ppo --env CartPole-v1 --momentum 0.5",
    "study momentum",
)


def usage(name: str, first: Mapping[str, str]) -> str:
    """How a command is called; ``first`` is its positional argument, if that is known."""
    what, _, rest = COMMANDS[name].arguments.partition(" ")
    return f"{called(name, first) if first else f'rlgd {name} {what}'} {rest}".strip()


def called(name: str, first: Mapping[str, str]) -> str:
    """A command with its positional argument, as it was typed."""
    return " ".join(["rlgd", name, *map(shlex.quote, first.values())])


def page(name: str, options: CommandOptions, first: Mapping[str, str], whole: bool) -> str:
    """The help of a command.

    Args:
        name: of the command.
        options: its defaults.
        first: its positional argument, if that is known.
        whole: show all flags in full.
    """
    flags = [flag for flag in flags_of(options).values() if not flag.is_positional]
    short = len(flags) > MANY and not whole
    lines = [f"usage: {usage(name, first)}", *_about(options)]
    used = _most_used(flags) if len(flags) > MANY else []
    if used:
        lines += ["", "most used:", *(line for flag in used for line in _described(flag, short))]
    lines += [""] if short else []
    for group in GROUPS:
        others = [flag for flag in flags if flag not in used and group_of(flag) == group]
        if others and short:
            lines += _entry(f"{group}:", " ".join(_option(flag.name) for flag in others), COMPACT_COLUMN, indent="")
        elif others:
            lines += ["", f"{group}:", *(line for flag in others for line in _described(flag, short))]
    if short:
        lines += ["", as_typed(f"`{called(name, first)} --help-all` shows all {len(flags)} flags.")]
    return "\n".join(lines) + "\n"


def group_of(flag: Flag) -> str:
    """The heading that a flag stands under: its own, or that of the class that declares it."""
    if len(flag.path) == 1:
        return flag.metadata["group"]
    return OF_FLAG.get(flag.name) or next(OF_PART[name] for name in reversed(flag.path[:-1]) if name in OF_PART)


def sentence(flag: Flag, short: bool = False) -> str:
    """What a flag means and what is allowed; ``short`` leaves long lists of choices out."""
    text, choices, within = (flag.metadata.get(key) for key in ("doc", "choices", "within"))
    if choices and not (short and len(choices) > CHOICES_IN_SHORT):
        return f"{text} ({', '.join(choices)})"
    return f"{text}, in {within}" if within and within != "(-inf, inf)" else str(text)


def default(flag: Flag) -> str:
    """The default of a flag in parentheses; nothing where there is none."""
    if flag.default is None or flag.default is False or flag.default == () or flag.is_positional:
        return ""
    if flag.default is True:
        return "(default: on)"
    value = " ".join(map(str, flag.default)) if isinstance(flag.default, tuple) else flag.default
    return f"(default: {value})"


def metavar(flag: Flag) -> str:
    """What stands for the value of a flag."""
    if flag.metadata.get("metavar"):
        return flag.metadata["metavar"]
    if is_mapping(flag.kind):
        return "KEY=VALUE ..."
    kinds = [kind for kind in members(flag.kind) if kind is not type(None)]
    several = typing.get_origin(kinds[0]) is tuple
    names = {int: "INT", float: "FLOAT", str: "TEXT"}
    value = names.get(typing.get_args(kinds[0])[0] if several else kinds[-1], "VALUE")
    return f"{value} ..." if several else value


def _most_used(flags: Sequence[Flag]) -> list[Flag]:
    by_name = {flag.name: flag for flag in flags}
    return [by_name[name] for name in FIRST if name in by_name][:MOST_USED]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _described(flag: Flag, short: bool) -> list[str]:
    """A flag with its sentence and its default."""
    if flag.kind is bool:
        name = _option(flag.name) if not flag.default else f"--[no-]{_option(flag.name)[2:]}"
    else:
        name = f"{_option(flag.name)} {metavar(flag)}"
    return _entry(name, f"{sentence(flag, short)} {default(flag)}".strip(), COLUMN)


def _about(options: CommandOptions) -> list[str]:
    """What a command does, and its notes; lines with columns are wrapped in their last column."""
    lines = []
    for text in filter(None, (inspect.getdoc(type(options)), options.notes())):
        lines.append("")
        for line in as_typed(text).splitlines():
            column = re.match(r" +\S.*?  +", line)
            hanging = " " * (column.end() if column else 0)
            lines += textwrap.wrap(line, _width(), subsequent_indent=hanging) or [""]
    return lines


def _entry(name: str, text: str, column: int, indent: str = "  ") -> list[str]:
    """A name and its text beside it, or below it where the name is longer than the column."""
    unbroken = re.sub(r"(?<=[\[(][\d-]), (?=\S+[\])])", f",{NO_BREAK}", as_typed(text))  # an interval stays on one line
    lines = textwrap.wrap(unbroken, _width() - column, break_on_hyphens=False) or [""]
    lines = [line.replace(NO_BREAK, " ") for line in lines]
    left = indent + name
    if len(left) > column - 2:
        return [left, *(" " * column + line for line in lines)]
    return [left.ljust(column) + lines[0], *(" " * column + line for line in lines[1:])]


def _width() -> int:
    """Columns of the terminal, within limits that can be read."""
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
