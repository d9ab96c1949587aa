"""SIGKILL at any instant: every resume succeeds, and in the end nothing tells that there were kills."""

import functools
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import rlgd
from rlgd.run.checkpoints import folder
from rlgd.run.layout import CHECKPOINTS
from tests.support.processes import FLAGS, assert_same_run, start, state, wait_for


def building(saved: Path, before: set[Path]) -> bool:
    """Whether a checkpoint is being built that was not before."""
    return any(".tmp" in path.name for path in set(saved.iterdir()) - before)


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "total"), [(1, 200_000), (100, 6_000_000)])
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(tmp_path: Path, kills: int, total: int) -> None:
    chance = random.Random(kills)
    run, whole, saved = tmp_path / "run", tmp_path / "whole", tmp_path / "run" / CHECKPOINTS
    done = start("train", *FLAGS, "--total-timesteps", str(total), "--run-dir", str(whole))
    _, error = done.communicate(timeout=400)
    assert done.returncode == 0, error
    begin = time.monotonic()
    process = start("train", *FLAGS, "--total-timesteps", str(total), "--run-dir", str(run))
    wait_for(process, lambda: folder.all_steps(saved))  # before that there is nothing to resume from
    wait_for(process, lambda: folder.all_steps(saved) != [0])
    warm = time.monotonic() - begin
    for number in range(kills):
        assert process.poll() is None, "it ended before it was killed often enough"
        if number % 2:
            # In the middle of saving: as soon as the folder is there that a checkpoint is built in, or a little later.
            before = set(saved.iterdir())
            wait_for(process, functools.partial(building, saved, before))
            time.sleep(chance.uniform(0, 0.1))
        else:
            time.sleep(chance.uniform(0, 1.2 * warm))
        process.kill()
        _, error = process.communicate(timeout=60)
        assert process.returncode == -9, error
        if number + 1 < kills:
            process = start("resume", str(run), "--quiet")
    rlgd.resume(run)
    assert_same_run(run, whole)


@pytest.mark.slow
def test_on_the_host_every_resume_goes_on_from_the_learners_state(tmp_path: Path) -> None:
    """New episodes begin there, by the run's seed and the step: of two copies that are resumed, both end the same."""
    kills, total, chance = 8, 300_000, random.Random(0)
    run, saved = tmp_path / "run", tmp_path / "run" / CHECKPOINTS
    process = start("train", *FLAGS, "--backend", "host", "--total-timesteps", str(total), "--run-dir", str(run))
    for number in range(kills):
        before = folder.latest_step(saved) if saved.exists() else None

        def goes_on(before: int | None = before) -> bool:
            return (folder.latest_step(saved) or 0) > (before or 0)

        wait_for(process, goes_on)
        assert process.poll() is None, "it ended before it was killed often enough"
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        _, error = process.communicate(timeout=60)
        assert process.returncode == -9, error
        newest = folder.latest_step(saved)
        kept = state(run, newest)
        if number == kills - 1:
            shutil.copytree(run, tmp_path / "copy")
        process = start("resume", str(run), "--quiet")
        assert all(np.array_equal(value, kept[name]) for name, value in state(run, newest).items())
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error
    again = start("resume", str(tmp_path / "copy"), "--quiet")
    _, error = again.communicate(timeout=400)
    assert again.returncode == 0, error
    assert_same_run(run, tmp_path / "copy")
