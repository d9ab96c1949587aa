"""SIGKILL at any instant: every resume succeeds, and in the end nothing tells that there were kills."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlgd import checkpoint, rundir, training
from rlgd.rundir import BEST, CHECKPOINTS

FLAGS = [
    *("ppo", "--env", "CartPole-v1", "--num-envs", "8", "--rollout-length", "16", "--hidden-sizes", "8"),
    *("--num-epochs", "2", "--num-minibatches", "2", "--normalize-obs", "--scale-reward", "--measure-every", "7"),
    *("--eval-every", "100000", "--eval-episodes", "2", "--patience", "50"),
    *("--checkpoint-every", "20000", "--quiet"),
]


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "rlgd", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: "subprocess.Popen[str]", what: Any) -> None:
    end = time.monotonic() + 120
    while not what() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.0005)


def state(run: Path) -> dict[str, np.ndarray]:
    """Everything that the newest checkpoint holds."""
    settings = rundir.read(run, None)
    like = jax.eval_shape(
        lambda key: training.initialize(settings.agent.prepared(), settings.env, key), jax.random.key(0)
    )
    steps = checkpoint.latest_step(run / CHECKPOINTS)
    assert steps is not None
    checkpoint.verified(run / CHECKPOINTS, steps)
    named = checkpoint._named_leaves(checkpoint.restore(run / CHECKPOINTS, steps, like))
    return {name: np.asarray(value) for name, value in named.items()}


def rows(run: Path) -> list[dict[str, float]]:
    """The curves, but for times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds" and not k.startswith("time/")} for line in lines]


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The same out of TensorBoard's event files."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}


def assert_same_run(one: Path, other: Path) -> None:
    states = state(one), state(other)
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)
    assert rows(one) == rows(other)
    assert curves(one) == curves(other)
    for points in curves(one).values():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps))
    summaries = [json.loads((run / "summary.json").read_text()) for run in (one, other)]
    assert summaries[0]["evaluation"] == summaries[1]["evaluation"]
    assert checkpoint.all_steps(one / BEST) == checkpoint.all_steps(other / BEST)
    assert checkpoint.all_steps(one / CHECKPOINTS) == checkpoint.all_steps(other / CHECKPOINTS)
    assert not checkpoint.incomplete(one / CHECKPOINTS)


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
            wait_for(process, lambda before=before: any(".tmp" in p.name for p in set(saved.iterdir()) - before))
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
