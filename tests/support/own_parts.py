"""Commands in the tests' process, each as in a process of its own, which knows no part of a user yet."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pytest

from rlgd import plugins
from rlgd.cli import jax_setup, main

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"
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


def set_nothing_up(*_: Any, **__: Any) -> None:
    """In place of the command line's set-up: JAX stays as it is. Processes that a study starts import it."""


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """JAX as users have it, in all threads: their parts need not be strict."""
    usual = {"jax_numpy_dtype_promotion": "standard", "jax_numpy_rank_promotion": "allow"}
    strict = {name: getattr(jax.config, name) for name in usual}
    for name, value in usual.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in strict.items():
            jax.config.update(name, value)


def command_in(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """What runs a command in a folder, with modules of ``path``."""
    usual = sys.path.copy()
    monkeypatch.setattr(jax_setup, "set_up", set_nothing_up)
    monkeypatch.chdir(folder)

    def run(*words: str, path: Path = PLUGIN) -> Said:
        monkeypatch.setattr(sys, "path", [str(path), *usual])
        monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{path}")  # of processes that it starts
        forget(monkeypatch)
        capfd.readouterr()
        with lenient():
            return Said(main.main(list(words)), *capfd.readouterr())

    return run
