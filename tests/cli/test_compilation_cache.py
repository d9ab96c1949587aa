"""Programs on disk run only if they are those that were written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlgd.cli.compilation_cache import DIGESTS, record, remove_strangers
from tests.support.small_runs import FLAGS


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    for name in "abc":
        (tmp_path / f"{name}-cache").write_text(name * 10)
    record(tmp_path)
    remove_strangers(tmp_path)
    assert names(tmp_path) == ["a", "b", "c"]
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix("-cache") for path in folder.glob("*-cache"))


def swap(one: Path, other: Path) -> None:
    beside = one.with_name("beside")
    for source, target in ((one, beside), (other, one), (beside, other)):
        source.rename(target)


def test_swapped_programs_are_removed(folder: Path) -> None:
    swap(folder / "a-cache", folder / "b-cache")
    remove_strangers(folder)
    assert names(folder) == ["c"]


def test_a_program_that_nobody_finished_is_removed(folder: Path) -> None:
    (folder / "torn-cache").write_text("to")
    remove_strangers(folder)
    assert names(folder) == ["a", "b", "c"]


def test_a_program_that_was_copied_keeps_its_digest(folder: Path) -> None:
    os.utime(folder / "a-cache")
    remove_strangers(folder)
    assert names(folder) == ["a", "b", "c"]


@pytest.mark.parametrize("content", ["", "[]", '{"a-cache": 1}', '{"a-cache": [1, 2, 3]}'])
def test_without_a_sound_list_all_programs_are_strangers(folder: Path, content: str) -> None:
    (folder / DIGESTS).write_text(content)
    remove_strangers(folder)
    assert names(folder) == []


@pytest.mark.slow
def test_training_compiles_again_what_was_swapped(tmp_path: Path) -> None:
    variables = {name: text for name, text in os.environ.items() if not name.startswith("JAX_")}
    train = [sys.executable, "-m", "rlgd", "train", *FLAGS, "--total-timesteps", "64"]
    folder = tmp_path / "rlgd" / "xla"

    def run(name: str) -> None:
        command = [*train, "--run-dir", str(tmp_path / name)]
        environment = variables | {"XDG_CACHE_HOME": str(tmp_path)}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")

    run("first")
    one, other = sorted(folder.glob("jit_[ir]*-cache"))[:2]
    swap(one, other)
    run("second")
