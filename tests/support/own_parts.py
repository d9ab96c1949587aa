"""Commands in the tests' process, each as in a process of its own, which knows no part of a user yet."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from rlgd import plugins
from rlgd.cli import jax_setup, main

PLUGIN = Path(__file__).parents[1] / "plugin"
THEIRS = ("rlgd_plugin", "evil", "sound")  # packages of users


class Said(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Said]


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has imported, named or trusted a part of a user, and what is installed is looked up again."""
    monkeypatch.setattr(plugins, "_used", {})
    monkeypatch.setattr(plugins, "_trusted", set())
    plugins._installed.cache_clear()
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] in THEIRS]:
        del sys.modules[name]


def command_in(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """What runs a command in a folder, with modules of ``path``."""
    usual = sys.path.copy()
    monkeypatch.setattr(jax_setup, "set_up", lambda *_, **__: None)
    monkeypatch.chdir(folder)

    def run(*words: str, path: Path = PLUGIN) -> Said:
        monkeypatch.setattr(sys, "path", [str(path), *usual])
        forget(monkeypatch)
        capfd.readouterr()
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):  # parts of users need not be strict
            return Said(main.main(list(words)), *capfd.readouterr())

    return run
