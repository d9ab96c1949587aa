"""The directory of a reproduction: one writer, no file of somebody else."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlgd.cli import main
from rlgd.errors import UsageError
from rlgd.reproduction.jobs import train_job, unfinished_jobs
from rlgd.reproduction.runs import SCORE, writing
from rlgd.system.lock import LOCK, Claim
from tests.support.tiny_suite import runs_of, scores, train

ONE = ("reproduce", "tiny", "--seeds", "1", "--only", "CartPole-v1:a2c", "--quiet")
ROOT = Path("runs/reproduce/tiny")


@pytest.mark.slow
def test_one_process_writes_a_reproduction(capsys: pytest.CaptureFixture[str]) -> None:
    with writing(ROOT):
        assert main.main([*ONE]) == 2
        assert f"{ROOT} is being written by another process (pid {os.getpid()} " in capsys.readouterr().err
        assert main.main([*ONE, "--dry-run"]) == 0
    assert main.main([*ONE]) == 0


def test_a_worker_that_is_left_from_a_killed_call_is_waited_for() -> None:
    """It holds the lock of its run until that is saved."""
    runs = runs_of(seeds=1)
    directory = runs.seed_runs()[0].directory
    directory.mkdir(parents=True)
    left, released = Claim(directory / LOCK), 0.0

    def release() -> None:
        nonlocal released
        time.sleep(1)
        released = time.monotonic()
        left.release()

    thread = threading.Thread(target=release)
    thread.start()
    assert train(runs) == [None]
    assert time.monotonic() > released > 0
    thread.join()
    assert scores(runs) != [None]


def test_what_it_saved_meanwhile_is_not_replaced() -> None:
    """The job was listed before there was a checkpoint."""
    runs = runs_of(seeds=1)
    (job,) = unfinished_jobs([runs])
    assert not job.started
    assert train(runs) == [None]
    metrics = job.directory / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns
    assert train_job(job, lambda: None) is None
    assert metrics.stat().st_mtime_ns == before


KINDS: dict[str, Callable[[Path, Path], object]] = {
    "a symbolic link": lambda path, theirs: path.symlink_to(theirs),
    "a FIFO": lambda path, theirs: os.mkfifo(path),
    "a folder": lambda path, theirs: path.mkdir(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_score_and_no_table_is_written_elsewhere(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("mine")
    seed = ROOT / "CartPole-v1-a2c" / "seed0"
    seed.mkdir(parents=True)
    KINDS[kind](seed / SCORE, theirs)
    assert main.main([*ONE]) == 2
    assert f"{seed / SCORE} is {kind}" in capsys.readouterr().err
    assert [path.name for path in seed.iterdir()] == [SCORE]
    shutil.rmtree(ROOT)
    KINDS[kind](tmp_path / "table.md", theirs)
    assert main.main([*ONE, "--out", "table.md"]) == 2
    assert f"table.md cannot be written: there is {kind}" in capsys.readouterr().err
    assert not ROOT.exists()
    assert theirs.read_text() == "mine"


@pytest.mark.parametrize("linked", ["CartPole-v1-a2c", "CartPole-v1-a2c/seed0"])
def test_no_run_is_written_through_a_linked_folder(linked: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    place = Path("runs") / linked
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "theirs")
    with pytest.raises(UsageError, match=f"{linked} is a symbolic link"):
        runs_of().seed_runs()
    assert not list((tmp_path / "theirs").iterdir())


def test_only_a_table_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.md").write_text("mine")
    assert main.main([*ONE, "--out", "notes.md"]) == 2
    assert "notes.md is in the way, and is no table of rlgd's" in capsys.readouterr().err
    assert Path("notes.md").read_text() == "mine"
    assert not ROOT.exists()
    assert main.main([*ONE, "--out", "table.md"]) == 0
    first = Path("table.md").read_text()
    assert main.main([*ONE, "--out", "table.md", "--seeds", "2"]) == 0
    assert Path("table.md").read_text() != first


def test_a_score_of_somebody_else_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    seed = ROOT / "CartPole-v1-a2c" / "seed0"
    seed.mkdir(parents=True)
    (seed / SCORE).write_text("mine")
    assert main.main([*ONE]) == 2
    assert "score.json is in the way, and belongs to no run" in capsys.readouterr().err
    assert (seed / SCORE).read_text() == "mine"


@pytest.mark.parametrize("seeds", [True, 1.5, "2"])
def test_the_number_of_seeds_is_whole(seeds: int) -> None:
    with pytest.raises(UsageError, match=r"seeds is .*; allowed: a whole number from 1"):
        runs_of(seeds=seeds)
