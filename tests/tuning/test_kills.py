"""SIGKILL at any instant, of two processes that share a search: no trial is lost, and none counts twice."""

import json
import random
import re
import subprocess
import time
from pathlib import Path

import pytest

from rlgd.tuning.presence import RUNNING
from tests.support.processes import start, wait_for

KILLS, TRIALS = 50, 300
START = 4.0  # seconds; about as long as a process takes to its first trial
ENDED = re.compile(r"^  trial (\d+): (\S+) \((\w+)\)", re.MULTILINE)


def search(directory: Path, *more: str) -> "subprocess.Popen[str]":
    return start(
        *("tune", "a2c", "--env", "CartPole-v1", "--search", "learning_rate=log:1e-4,1e-1", "--trials", str(TRIALS)),
        *("--seeds", "1", "--fresh-seeds", "1", "--total-timesteps", "20k", "--num-envs", "4"),
        *("--rollout-length", "8", "--hidden-sizes", "8", "--eval-episodes", "5", "--run-dir", str(directory), *more),
    )


@pytest.mark.slow
def test_processes_that_are_killed_again_and_again_end_exactly_the_trials_that_were_asked_for(tmp_path: Path) -> None:
    chance = random.Random(0)
    journal, running = tmp_path / "journal.log", tmp_path / RUNNING
    processes = [search(tmp_path), search(tmp_path)]
    reported: dict[int, tuple[str, str]] = {}

    def hear(said: str) -> None:
        """What a process reported as ended is in the journal for good, and nobody else has ended it."""
        for number, score, state in ENDED.findall(said):
            assert int(number) not in reported
            reported[int(number)] = score, state

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    for number in range(KILLS):
        process = processes[number % 2]
        if number % 4 < 2:
            time.sleep(chance.uniform(0, START))
        else:  # somewhere in a trial, or at its end
            some = lines() + chance.randrange(10)
            wait_for(process, lambda some=some: lines() > some)  # type: ignore[misc]
        assert process.poll() is None, f"it ended before kill {number + 1}: {process.communicate()[1]}"
        process.kill()
        _, error = process.communicate(timeout=60)
        assert process.returncode == -9, error
        assert "Traceback" not in error
        hear(error)
        processes[number % 2] = search(tmp_path)
    for process in processes:
        _, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
        hear(error)
    last = search(tmp_path, "--json")
    out, error = last.communicate(timeout=120)
    assert last.returncode == 0, error
    trials = {trial["number"]: trial for trial in json.loads(out)["trials"]}
    assert len(trials) == len(json.loads(out)["trials"]) == TRIALS
    for number, (score, state) in reported.items():
        assert trials[number]["state"] == state
        assert score == ("-" if trials[number]["score"] is None else f"{trials[number]['score']:.1f}")
    assert len(reported) >= TRIALS - KILLS  # a kill between the record and the report hides at most one
    assert not list(running.iterdir())
    assert journal.read_bytes().endswith(b"\n")
