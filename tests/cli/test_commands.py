"""The table of commands: every row has a module, a dataclass of options, and a function that runs them."""

import dataclasses
import inspect

import pytest

from rlgd.cli import commands
from rlgd.cli.options import CommandOptions
from rlgd.errors import UsageError


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_command_is_a_module_with_options_and_run(name: str) -> None:
    module = commands.COMMANDS[name].load()
    assert issubclass(module.Options, CommandOptions)
    assert dataclasses.is_dataclass(module.Options)
    assert [*inspect.signature(module.run).parameters] == ["options"]
    assert module.Options.__doc__


def test_each_command_has_a_module_of_its_own() -> None:
    modules = [command.module for command in commands.COMMANDS.values()]
    assert len({*modules}) == len(modules)


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        (["train", "ppo"], "train", ["ppo"]),
        (["study", "momentum"], "study", ["momentum"]),
        (["study", "list"], "study list", []),
        (["study", "resume", "somewhere"], "study resume", ["somewhere"]),
        (["study"], "study", []),
    ],
)
def test_the_longest_name_counts(words: list[str], name: str, rest: list[str]) -> None:
    assert commands.find(words) == (name, rest)


def test_an_unknown_command_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown command 'stduy'; did you mean 'study'"):
        commands.find(["stduy"])
