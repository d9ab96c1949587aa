"""Several processes share a search: exactly as many trials end as were asked for, whoever is killed."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlgd.errors import StorageFault, UsageError
from rlgd.tuning.journal import JOURNAL, counted_trials
from rlgd.tuning.presence import RUNNING
from rlgd.tuning.sharing import SharedSearch

# Runs trials of a search that take no training; a trial number that is named stops there for good.
WORKER = """
import sys, time
from pathlib import Path
from rlgd.tuning.sharing import SharedSearch
shared = SharedSearch.open(Path(sys.argv[1]), {}, 0)
while True:
    with shared.next_trial(int(sys.argv[2])) as trial:
        if trial is None:
            break
        value = trial.suggest_float("x", 0, 1)
        print(trial.number, flush=True)
        if str(trial.number) in sys.argv[3:]:
            time.sleep(1000)
        shared.end(trial, "complete", value, "")
"""


def worker(directory: Path, limit: int, *stops: int) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", WORKER, str(directory), str(limit), *map(str, stops)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def states(directory: Path) -> list[str]:
    return [trial.state.name for trial in SharedSearch.open(directory, {}, 0).study.get_trials()]


def test_a_killed_trial_neither_counts_nor_blocks(tmp_path: Path) -> None:
    stuck = worker(tmp_path, 3, 1)
    assert stuck.stdout is not None
    assert [stuck.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    (tmp_path / RUNNING / "0.lock").touch()  # as if killed just after it had recorded the end
    other = worker(tmp_path, 3)
    deadline = time.monotonic() + 60
    while states(tmp_path) != ["COMPLETE", "RUNNING", "COMPLETE"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    assert other.poll() is None  # two have ended and one is running: enough, as long as that one lives
    stuck.kill()
    stuck.communicate()
    out, error = other.communicate(timeout=60)
    assert other.returncode == 0, error
    assert out.split() == ["2", "3"]
    assert states(tmp_path) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert not list((tmp_path / RUNNING).iterdir())


def test_values_follow_from_the_seed_and_the_number(tmp_path: Path) -> None:
    """Two processes that begin together try different values, and a resumed search the same as one at a stretch."""

    def run(directory: Path, limit: int) -> list[float]:
        shared = SharedSearch.open(directory, {}, 3)
        while True:
            with shared.next_trial(limit) as trial:
                if trial is None:
                    return [trial.params["x"] for trial in counted_trials(shared.study)]
                shared.end(trial, "complete", trial.suggest_float("x", 0, 1), "")

    whole = run(tmp_path / "whole", 12)
    run(tmp_path / "parts", 5)
    assert run(tmp_path / "parts", 12) == whole
    first, second = (SharedSearch.open(tmp_path / "shared", {}, 3) for _ in range(2))
    with first.next_trial(9) as one, second.next_trial(9) as two:
        assert one is not None
        assert two is not None
        assert [one.suggest_float("x", 0, 1), two.suggest_float("x", 0, 1)] == whole[:2]


def test_threads_share_a_search_too(tmp_path: Path) -> None:
    def run() -> None:
        shared = SharedSearch.open(tmp_path, {}, 0)
        while True:
            with shared.next_trial(20) as trial:
                if trial is None:
                    return
                shared.end(trial, "complete", trial.suggest_float("x", 0, 1), "")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(tmp_path) == ["COMPLETE"] * 20


def test_all_may_begin_a_search_at_once(tmp_path: Path) -> None:
    barrier, faults = threading.Barrier(4), []

    def begin() -> None:
        for number in range(25):
            barrier.wait(30)
            try:
                SharedSearch.open(tmp_path / str(number), {}, 0)
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_trial_whose_claim_is_removed_while_it_runs_is_lost(tmp_path: Path) -> None:
    one, other = (SharedSearch.open(tmp_path, {}, 0) for _ in range(2))
    with one.next_trial(2) as trial:
        assert trial is not None
        (tmp_path / RUNNING / "0.lock").unlink()
        with other.next_trial(2) as second:
            assert second is not None
            other.end(second, "complete", 1.0, "")
        with pytest.raises(StorageFault, match=r"trial 0 is lost: .*0\.lock was removed while it ran"):
            one.end(trial, "complete", 1.0, "")


def test_a_trial_that_an_exception_leaves_does_not_count(tmp_path: Path) -> None:
    shared = SharedSearch.open(tmp_path, {}, 0)
    with contextlib.suppress(KeyboardInterrupt), shared.next_trial(1):
        raise KeyboardInterrupt
    with shared.next_trial(1) as trial:
        assert trial is not None
        assert trial.number == 1
        shared.end(trial, "complete", 1.0, "")
    assert states(tmp_path) == ["FAIL", "COMPLETE"]


def test_a_directory_that_disappears_is_a_fault(tmp_path: Path) -> None:
    shared = SharedSearch.open(tmp_path / "search", {}, 0)
    (tmp_path / "search").rename(tmp_path / "moved")
    with pytest.raises(StorageFault, match="search cannot be written: No such file"), shared.next_trial(1):
        pass


def fifo(path: Path) -> None:
    os.mkfifo(path)


IN_THE_WAY: list[tuple[str, Callable[[Path], object], str]] = [
    ("best.json", lambda path: path.write_text("mine"), "belongs to no search"),
    ("summary.md", lambda path: path.write_text("mine"), "belongs to no search"),
    ("best.json", lambda path: path.symlink_to("elsewhere"), "is a symbolic link"),
    ("best.json", fifo, "is a FIFO"),
    ("importance.png", lambda path: path.write_text("mine"), "belongs to no search"),
    ("summary.md", Path.mkdir, "is a folder"),
    (JOURNAL, lambda path: path.symlink_to("elsewhere"), "is a symbolic link"),
    (RUNNING, lambda path: path.write_text("mine"), "is a file"),
    (RUNNING, Path.mkdir, "belongs to no search"),
]


@pytest.mark.parametrize(("name", "make", "message"), IN_THE_WAY, ids=range(len(IN_THE_WAY)))
def test_what_others_wrote_is_refused(name: str, make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    make(tmp_path / name)
    with pytest.raises(UsageError, match=f"{name} .*({message})"):
        SharedSearch.open(tmp_path, {}, 0)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"search's directory .* cannot be written: Not a directory"):
        SharedSearch.open(tmp_path / "file" / "search", {}, 0)
