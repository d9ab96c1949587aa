"""SIGKILL at any instant: every resume succeeds, and in the end nothing tells that there were kills."""

import functools
import random
import time
from pathlib import Path

import pytest
from processes import FLAGS, assert_same_run, start, wait_for

from rlgd import checkpoint
from rlgd.rundir import CHECKPOINTS


def building(saved: Path, before: set[Path]) -> bool:
    """Whether a checkpoint is being built that was not before."""
    return any(".tmp" in path.name for path in set(saved.iterdir()) - before)


@pytest.mark.parametrize(("kills", "total"), [(4, 400_000), pytest.param(32, 2_000_000, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(tmp_path: Path, kills: int, total: int) -> None:
    chance = random.Random(kills)
    run, whole, saved = tmp_path / "run", tmp_path / "whole", tmp_path / "run" / CHECKPOINTS
    done = start("train", *FLAGS, "--total-timesteps", str(total), "--run-dir", str(whole))
    _, error = done.communicate(timeout=400)
    assert done.returncode == 0, error
    begin = time.monotonic()
    process = start("train", *FLAGS, "--total-timesteps", str(total), "--run-dir", str(run))
    wait_for(process, lambda: checkpoint.all_steps(saved))  # before that there is nothing to go on from
    wait_for(process, lambda: checkpoint.all_steps(saved) != [0])
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
        process = start("resume", str(run), "--quiet")
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error
    assert_same_run(run, whole)
