"""The directory of a run: one writer at a time, and nobody else's files."""

import os
import subprocess
from pathlib import Path

import pytest

import rlgd
from rlgd.errors import UsageError
from rlgd.run.checkpoints import folder
from tests.support.small_runs import FLAGS, At, command, train


def test_a_second_writer_is_refused_while_the_first_one_trains(tmp_path: Path) -> None:
    seen: list[str] = []

    def second() -> None:
        for argv in (["train", *FLAGS, "--run-dir", str(tmp_path), "--overwrite"], ["resume", str(tmp_path)]):
            process = subprocess.run(command(*argv), capture_output=True, text=True, timeout=120, check=False)
            assert process.returncode == 2
            seen.append(process.stderr)

    train(tmp_path, sinks=[At(300, second)])
    for error in seen:
        assert f"{tmp_path} is being written by another process (pid {os.getpid()} on " in error
        assert "Traceback" not in error
    assert rlgd.resume(tmp_path).reason == "already complete"


@pytest.mark.slow
def test_two_runs_that_want_an_automatic_name_get_two(tmp_path: Path) -> None:
    argv = command("train", *FLAGS, "--total-timesteps", "64")
    both = [subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    directories = [process.communicate(timeout=240)[0].split("run:")[1].split()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(set(directories)) == 2


def test_overwriting_leaves_what_rlgd_did_not_write(tmp_path: Path) -> None:
    train(tmp_path)
    mine = ["notes.txt", "checkpoints/notes.txt", "checkpoints/77/notes.txt", "events.out.tfevents.1.other", "best.txt"]
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    train(tmp_path, overwrite=True, total_timesteps=64)
    assert [(tmp_path / name).read_text() for name in mine] == ["mine"] * len(mine)
    assert folder.all_steps(tmp_path / "checkpoints") == [64]
    assert len(list(tmp_path.glob("events.*"))) == 2


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "config.json", "checkpoints"])
def test_files_that_are_no_runs_are_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"in the way|already has a run|format_version None"):
            train(tmp_path, overwrite=overwrite)
    assert (tmp_path / name).read_text() == "{}"
