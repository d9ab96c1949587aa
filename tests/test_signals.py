"""Ending a run by a signal: real processes, real signals."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import rlgd
import rlgd.envs
from rlgd import checkpoint
from rlgd.agents import A2C
from rlgd.errors import Interrupted
from rlgd.run import execute
from rlgd.rundir import RunConfig

FLAGS = [
    *("a2c", "--env", "CartPole-v1", "--num-envs", "4", "--rollout-length", "8", "--hidden-sizes", "8"),
    *("--measure-every", "0", "--eval-episodes", "2", "--quiet"),
]


def rlgd_command(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "rlgd", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupt(process: "subprocess.Popen[str]", run: Path, number: signal.Signals) -> str:
    """Send the signal when the first rows are written; the error output."""
    rows = run / "metrics.jsonl"
    end = time.monotonic() + 120
    while not (rows.exists() and rows.read_text().count("\n") > 1):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    return error


@pytest.mark.parametrize(
    ("number", "backend", "steps"), [(signal.SIGINT, "device", 1_000_000), (signal.SIGTERM, "host", 200_000)]
)
def test_a_signal_ends_a_run_that_can_be_gone_on_with(
    tmp_path: Path, number: signal.Signals, backend: str, steps: int
) -> None:
    run = tmp_path / "run"
    started = rlgd_command(
        "train", *FLAGS, "--backend", backend, "--total-timesteps", str(steps), "--run-dir", str(run)
    )
    error = interrupt(started, run, number)
    assert started.returncode == 128 + number
    assert "rlgd: stopping soon, and saving; once more to end at once\n" in error
    assert f"go on with `rlgd resume {run}`\n" in error
    assert "Traceback" not in error
    summary = json.loads((run / "summary.json").read_text())
    assert summary["reason"] == "interrupted"
    assert 0 < summary["steps"] < steps
    assert checkpoint.latest_step(run / "checkpoints") == summary["steps"]
    end = summary["steps"] + 3200 if backend == "host" else steps
    changed = ("--total-timesteps", str(end)) if backend == "host" else ()
    resumed = rlgd_command("resume", str(run), "--quiet", *changed)
    _, error = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, error
    summary = json.loads((run / "summary.json").read_text())
    assert summary["reason"] == "total_timesteps"
    assert end <= summary["steps"] < end + 32  # an iteration
    if backend == "device":
        whole = rlgd_command("train", *FLAGS, "--total-timesteps", str(steps), "--run-dir", str(tmp_path / "whole"))
        assert whole.wait(timeout=240) == 0
        pair = [rlgd.load(path).actor for path in (run, tmp_path / "whole")]
        for one, other in zip(*map(jax.tree.leaves, pair), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_second_signal_ends_the_process_at_once() -> None:
    script = """
import time
from rlgd import signals
with signals.caught() as asked:
    print(asked(), flush=True)
    while asked() is None:
        time.sleep(0.01)
    print(asked(), flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "None\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == f"{int(signal.SIGTERM)}\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT
    assert error == "rlgd: stopping soon, and saving; once more to end at once\n"


def test_a_signal_behind_the_last_step_leaves_the_evaluation_to_resume(tmp_path: Path) -> None:
    agent = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0)
    settings = RunConfig(agent, rlgd.envs.make("CartPole-v1"), total_timesteps=64, eval_episodes=2)
    with pytest.raises(Interrupted, match=r"interrupted at step 64; go on with `rlgd resume ") as caught:
        execute(settings, tmp_path, asked=lambda: signal.SIGTERM)
    assert caught.value.exit_code == 143
    resumed = rlgd.resume(tmp_path)
    assert resumed.evaluation is not None
    assert (resumed.steps, resumed.reason) == (64, "total_timesteps")
    again = rlgd.resume(tmp_path)
    assert (again.evaluation, again.reason) == (None, "already complete")
