"""SIGKILL at any instant: a study that is resumed ends as if nobody had disturbed it."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from rlgd.studies.directory import MEMBERS, RESULTS, STUDY, TENSORBOARD
from tests.support.processes import start, wait_for

KILLS, SEEDS = 50, 60
START = 4.0  # seconds; about as long as a process takes to its first member
TOML = f"""
agent = "a2c"
seeds = {SEEDS}
total_timesteps = 20_000
eval_episodes = 2
[settings]
num_envs = 4
rollout_length = 8
hidden_sizes = [8]
measure_every = 0
[[arms]]
vary = {{ learning_rate = [0.001, 0.01] }}
"""
MEMBERS_IN_ALL = 2 * SEEDS
ONE_BY_ONE = ("--workers", "1", "--slice-size", "1", "--quiet")


def lines(directory: Path) -> int:
    path = directory / MEMBERS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def without_seconds(directory: Path) -> list[dict[str, Any]]:
    """The members, sorted; each process takes its own time."""
    records = [json.loads(line) for line in (directory / MEMBERS).read_text().splitlines()]
    for record in records:
        del record["training_seconds"]
        record["rows"] = [
            [step, {name: value for name, value in values.items() if not name.startswith("time/")}]
            for step, _, values in record["rows"]
        ]
    return sorted(records, key=lambda record: record["member"])


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_as_if_it_never_was(tmp_path: Path) -> None:
    """Of five kills one hits the publishing; two hit the training at any time, and two just after a member's end."""
    chance = random.Random(0)
    study, whole = tmp_path / "study", tmp_path / "whole"
    (tmp_path / "mine.toml").write_text(TOML)
    done = start("study", str(tmp_path / "mine.toml"), "--run-dir", str(whole), *ONE_BY_ONE)
    _, error = done.communicate(timeout=400)
    assert done.returncode == 0, error
    process = start("study", str(tmp_path / "mine.toml"), "--run-dir", str(study), *ONE_BY_ONE)
    wait_for(process, (study / STUDY).exists)  # before that there is nothing to resume
    for number in range(KILLS):
        before = lines(study)
        if number >= 0.8 * KILLS:
            wait_for(process, lambda: lines(study) == MEMBERS_IN_ALL)
            time.sleep(chance.uniform(0, 2))
        elif number % 2:
            wait_for(process, lambda before=before: lines(study) > before)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.05))
        else:
            time.sleep(chance.uniform(0, START))
        assert process.poll() is None, f"it ended before kill {number + 1}: {process.communicate()}"
        process.kill()
        _, error = process.communicate(timeout=60)
        assert process.returncode == -9, error
        assert lines(study) >= before
        process = start("study", "resume", str(study), *ONE_BY_ONE)
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error
    assert without_seconds(study) == without_seconds(whole)
    assert [record["member"] for record in without_seconds(study)] == list(range(MEMBERS_IN_ALL))
    assert len((study / RESULTS).read_text().splitlines()) == MEMBERS_IN_ALL + 1
    for directory in (study, whole):
        assert len(list((directory / TENSORBOARD).glob("answer/events*"))) > 1
    assert {path.name for path in study.iterdir()} == {path.name for path in whole.iterdir()}
