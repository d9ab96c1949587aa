"""Ending a run by a signal: real processes, real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import rlgd
import rlgd.envs
from rlgd.agents import A2C
from rlgd.errors import Interrupted
from rlgd.run import RunConfig, RunSettings, execute
from rlgd.run.checkpoints import folder
from rlgd.run.layout import CHECKPOINTS
from rlgd.run.verify import rows
from rlgd.system import signals
from tests.support.processes import FLAGS, assert_same_run, start, state, wait_for

STEPS = ("--total-timesteps", "150000")
AGAIN = {signal.SIGINT: "Ctrl-C again", signal.SIGTERM: "a second signal"}


@pytest.fixture(scope="module", name="whole")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    process = start("train", *FLAGS, *STEPS, "--run-dir", str(run))
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return run


def when_it_compiles(run: Path) -> bool:
    """The files exist, without a row."""
    return (run / CHECKPOINTS / "0").exists()


def when_it_saves(run: Path) -> bool:
    """A checkpoint other than the first one is being built."""
    saved = run / CHECKPOINTS
    return saved.exists() and any(path.name.endswith(".tmp") for path in saved.iterdir() if path.name[0] != "0")


def when_it_trains(run: Path) -> bool:
    """There are rows."""
    rows = run / "metrics.jsonl"
    return rows.exists() and rows.read_bytes().count(b"\n") > 2


MOMENTS = [
    pytest.param(when_it_compiles, signal.SIGTERM, marks=pytest.mark.slow),
    pytest.param(when_it_saves, signal.SIGINT, marks=pytest.mark.slow),
    (when_it_saves, signal.SIGTERM),
    (when_it_trains, signal.SIGINT),
]


@pytest.mark.parametrize(("moment", "number"), MOMENTS)
def test_a_signal_ends_a_run_which_resumes_as_if_uninterrupted(
    tmp_path: Path, whole: Path, moment: Callable[[Path], bool], number: signal.Signals
) -> None:
    run = tmp_path / "run"
    process = start("train", *FLAGS, *STEPS, "--run-dir", str(run))
    wait_for(process, lambda: moment(run))
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert error == (
        f"rlgd: stopping after this chunk ({AGAIN[number]} stops at once)\n"
        f"rlgd: interrupted at step {folder.latest_step(run / CHECKPOINTS):,}; resume it with `rlgd resume {run}`\n"
    )
    summary = json.loads((run / "summary.json").read_text())
    assert summary["reason"] == "interrupted"
    assert summary["steps"] == folder.latest_step(run / CHECKPOINTS)
    rlgd.resume(run)
    assert_same_run(run, whole)


@pytest.mark.parametrize("moment", [when_it_compiles, pytest.param(when_it_saves, marks=pytest.mark.slow)])
def test_two_signals_end_a_run_at_once_without_a_torn_file(
    tmp_path: Path, whole: Path, moment: Callable[[Path], bool]
) -> None:
    run = tmp_path / "run"
    process = start("train", *FLAGS, *STEPS, "--run-dir", str(run))
    wait_for(process, lambda: moment(run))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=5)
    assert process.returncode == 143
    assert error == "rlgd: stopping after this chunk (a second signal stops at once)\n"
    rlgd.resume(run)
    assert_same_run(run, whole)


@pytest.mark.slow
def test_a_terminals_interrupt_reaches_workers_too_and_they_say_nothing(tmp_path: Path) -> None:
    """On the host the learner's state is exact and new episodes begin."""
    run = tmp_path / "run"
    flags = ["--backend", "host", "--vectorization", "async", "--total-timesteps", "100000", "--run-dir", str(run)]
    process = start("train", *FLAGS, *flags, start_new_session=True)
    wait_for(process, lambda: when_it_trains(run))
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert [line[:5] for line in error.splitlines()] == ["rlgd:"] * 2
    kept, steps = state(run), folder.latest_step(run / CHECKPOINTS)
    assert steps
    end = str(steps + 1280)
    resumed = start("resume", str(run), "--quiet", "--total-timesteps", end, "--keep", "100", "--eval-every", end)
    _, error = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, error
    assert error == ""
    assert state(run, steps).keys() == kept.keys()
    for name, value in state(run, steps).items():
        np.testing.assert_array_equal(value, kept[name])
    seen = [line["step"] for line in rows(run) if "rollout/episodes" in line]
    assert seen == sorted(set(seen))


def test_a_signal_before_the_run_begins_ends_the_command(tmp_path: Path) -> None:
    process = start("train", *FLAGS, *STEPS, "--run-dir", str(tmp_path / "run"))
    time.sleep(0.8)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode in (143, -signal.SIGTERM)
    assert "Traceback" not in error


def test_a_signal_whose_exception_is_swallowed_is_not_lost() -> None:
    """As in a destructor, or in a callback of an import."""
    script = """
import os, signal, time
from rlgd.system import signals

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)

with signals.raised():
    Swallows()
    with signals.caught() as poll_signal:
        print(poll_signal())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "15\n"
    assert "stopping after this chunk" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_swallowed_signal_ends_a_command_that_does_not_catch_it() -> None:
    script = """
import os, signal, time
from rlgd.system import signals

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)

try:
    with signals.raised():
        Swallows()
        print("goes on")
except signals.Terminated:
    print("ended")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("goes on\nended\n", "")


def fail_to_import(number: int | None) -> None:
    """As an extension module that is being initialized: whatever is raised inside becomes an import error."""
    with signals.raised():
        try:
            if number is not None:
                os.kill(os.getpid(), number)
                time.sleep(1)
        except KeyboardInterrupt as error:
            raise ImportError("while initializing the extension") from error
        raise ImportError("without a signal")


def test_a_signal_that_an_extension_prints_before_it_fails_is_not_shown() -> None:
    """Numpy's ``import_array`` does so in every module that is built on it: PyErr_Print calls the hook."""
    script = """
import os, signal, sys, time
from rlgd.system import signals

hook = sys.excepthook
try:
    with signals.raised():
        sys.excepthook(ValueError, ValueError("other faults are shown"), None)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except KeyboardInterrupt as error:
            sys.excepthook(type(error), error, error.__traceback__)
            raise ImportError("numpy._core.multiarray failed to import") from None
except signals.Terminated:
    print("ended", sys.excepthook is hook)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("ended True\n", "ValueError: other faults are shown\n")


INTERRUPTS = [(signal.SIGTERM, signals.Terminated), (signal.SIGINT, KeyboardInterrupt), (None, ImportError)]


@pytest.mark.parametrize(("number", "raised"), INTERRUPTS)
def test_a_signal_that_became_an_import_error_is_still_a_signal(
    number: int | None, raised: type[BaseException]
) -> None:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
    try:
        with pytest.raises(raised):
            fail_to_import(number)
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_signal_and_its_echo_are_one(tmp_path: Path) -> None:
    """As ``timeout`` of coreutils sends it."""
    run = tmp_path / "run"
    process = start("train", *FLAGS, *STEPS, "--run-dir", str(run), start_new_session=True)
    wait_for(process, lambda: when_it_trains(run))
    process.send_signal(signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "resume it with `rlgd resume" in error


def test_the_second_signal_ends_the_process_at_once() -> None:
    script = """
import time
from rlgd.system import signals
with signals.caught() as poll_signal:
    print(poll_signal(), flush=True)
    while poll_signal() is None:
        time.sleep(0.01)
    print(poll_signal(), flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "None\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == f"{int(signal.SIGTERM)}\n"
    time.sleep(2 * signals.ECHO)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT
    assert error == "rlgd: stopping after this chunk (a second signal stops at once)\n"


@pytest.mark.slow
def test_a_signal_after_the_last_step_leaves_the_evaluation_to_resume(tmp_path: Path) -> None:
    agent = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0)
    config = RunConfig(agent, rlgd.envs.make("CartPole-v1"), RunSettings(64, eval_episodes=2))
    with pytest.raises(Interrupted, match=r"interrupted at step 64; resume it with `rlgd resume ") as caught:
        execute(config, tmp_path, poll_signal=lambda: signal.SIGTERM)
    assert caught.value.exit_code == 143
    resumed = rlgd.resume(tmp_path)
    assert resumed.evaluation is not None
    assert (resumed.steps, resumed.reason) == (64, "total_timesteps")
    again = rlgd.resume(tmp_path)
    assert (again.evaluation, again.reason) == (None, "already complete")
