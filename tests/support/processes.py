"""Runs as processes of their own, and whether two of them are the same."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlgd.run import config_file, verify
from rlgd.run.checkpoints import folder
from rlgd.run.layout import BEST, CHECKPOINTS
from rlgd.run.verify import rows

FLAGS = [
    *("ppo", "--env", "CartPole-v1", "--num-envs", "8", "--rollout-length", "16", "--hidden-sizes", "8"),
    *("--num-epochs", "2", "--num-minibatches", "2", "--normalize-obs", "--scale-reward", "--measure-every", "7"),
    *("--eval-every", "100000", "--eval-episodes", "2", "--patience", "50"),
    *("--checkpoint-every", "20000", "--quiet"),
]


def start(*arguments: str, start_new_session: bool = False) -> "subprocess.Popen[str]":
    """A command."""
    command = [sys.executable, "-m", "rlgd", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=start_new_session)


def wait_for(process: "subprocess.Popen[str]", what: Callable[[], object]) -> None:
    """Wait until something is so, or the process has ended."""
    end = time.monotonic() + 120
    while not what() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.0005)


def state(run: Path, steps: int | None = None) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint, by default the newest."""
    newest = folder.latest_step(run / CHECKPOINTS)
    assert newest is not None
    return verify.state(config_file.read(run, None), run, newest if steps is None else steps)


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The same out of TensorBoard's event files."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith(("time/", "answer/training "))]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}


def assert_same_run(one: Path, other: Path) -> None:
    """The same bits, curves and results."""
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
    assert folder.all_steps(one / BEST) == folder.all_steps(other / BEST)
    assert folder.all_steps(one / CHECKPOINTS) == folder.all_steps(other / CHECKPOINTS)
    assert not folder.incomplete(one / CHECKPOINTS)
