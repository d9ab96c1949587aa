"""Commands as they can be typed: with `rlgd` on the path, off it, and behind another program of that name."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rlgd.system import commands
from rlgd.system.commands import as_typed, program

BESIDE = Path(sys.executable).with_name("rlgd")


def test_on_the_path_a_program_has_its_name() -> None:
    assert program("rlgd", "rlgd") == "rlgd"


@pytest.mark.parametrize("inside", [True, False])
def test_off_the_path_it_is_named_by_its_file(inside: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.chdir(BESIDE.parent.parent if inside else tmp_path)
    typed = program("rlgd", "rlgd")
    assert typed == (str(BESIDE.relative_to(BESIDE.parent.parent)) if inside else shlex.quote(str(BESIDE)))
    assert subprocess.run([*shlex.split(typed), "--version"], capture_output=True).returncode == 0


def test_behind_another_of_its_name_it_is_named_by_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "rlgd"
    other.write_text("#!/bin/sh\nexit 7\n")
    other.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert subprocess.run([*shlex.split(program("rlgd", "rlgd")), "--version"], capture_output=True).returncode == 0


def test_without_a_file_the_interpreter_runs_the_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", os.defpath)
    assert program("rlgd", "rlgd") == f"'{folder}/python' -m rlgd"


def test_a_working_directory_that_has_gone_is_no_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    place = tmp_path / "gone"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    assert program("rlgd", "rlgd") == shlex.quote(str(BESIDE))


def test_only_commands_in_a_text_are_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "program", lambda name, module: ".venv/bin/rlgd")
    text = "rlgd: `rlgd list envs` and `rlgd` list; rlgd/CartPole, `rlgd.train`"
    assert (
        as_typed("pip install 'rlgd[tune]'; pip install hyperopt")
        == ".venv/bin/rlgd install 'rlgd[tune]'; pip install hyperopt"
    )
    assert as_typed(text) == "rlgd: `.venv/bin/rlgd list envs` and `.venv/bin/rlgd` list; rlgd/CartPole, `rlgd.train`"
