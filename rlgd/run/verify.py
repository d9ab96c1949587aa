"""Whether resuming is exact: a run is trained to its end, trained again, killed at a random instant and resumed."""

import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from rlgd.envs import DeviceEnv
from rlgd.errors import RlgdError
from rlgd.pytrees import LoopState, named_leaves
from rlgd.run import config_file
from rlgd.run.checkpoints import manifest
from rlgd.run.checkpoints.folder import latest_step
from rlgd.run.checkpoints.state import restore
from rlgd.run.config import RunConfig
from rlgd.run.layout import CHECKPOINTS, METRICS
from rlgd.training.loop import initialize

ATTEMPTS = 5  # to kill a run before its end


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the comparison of two runs found.

    Attributes:
        steps: of the whole run.
        killed_at: the newest checkpoint when the other run was killed.
        on_device: whether the whole states at the end were compared; else the learner's where it was resumed.
        arrays, rows: how many were compared.
        differences: the names of those that differ.
    """

    steps: int
    killed_at: int
    on_device: bool
    arrays: int
    rows: int
    differences: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def sentences(self) -> str:
        """The verdict, for a person."""
        what = "the whole state at the end" if self.on_device else "the learner's state where it was resumed"
        lines = [
            f"trained:  {self.steps:,} steps at once; and again, killed, and resumed from step {self.killed_at:,}",
            f"compared: {what} ({self.arrays} arrays, bit for bit)",
        ]
        if self.on_device:
            lines.append(f"          the curves ({self.rows} rows, without times)")
        else:
            lines.append("          environments on the host begin new episodes, so the steps after it differ")
        lines += [f"differs:  {name}" for name in self.differences]
        return "\n".join([*lines, "resuming is exact" if self.exact else "resuming is NOT exact"])


def verify_resume(
    flags: Sequence[str],
    total_timesteps: int,
    env: str | None,
    on_progress: Callable[[str], None],
    trust: str | None = None,
) -> Verdict:
    """Train, kill, resume and compare, in processes of their own and in a directory that is removed.

    Args:
        flags: ``rlgd train``'s, the agent's name first.
        total_timesteps: of the run.
        env: the environment, where a run's files do not say enough to make it.
        on_progress: takes a sentence about what is being done.
        trust: the package of an agent that is not rlgd's.

    Raises:
        RlgdError: if a command fails, or each run ends before it is killed.
    """
    every = max(1, total_timesteps // 10)
    own = [flag for flag in flags if flag == "--deterministic-ops"]
    saving = ["--checkpoint-every", str(every), "--keep", "1000", "--total-timesteps", str(total_timesteps), "--quiet"]
    named = ([] if env is None else ["--env", env]) + ([] if trust is None else ["--trust", trust])
    with tempfile.TemporaryDirectory(prefix="rlgd-verify-") as folder:
        whole = Path(folder) / "whole"
        on_progress("training to the end")
        with _running("train", *flags, *named, *saving, "--run-dir", str(whole)) as process:
            began = _wait_for(1, process, whole)
            ended = _wait_for(total_timesteps, process, whole)
            _finish(process)
        steps = latest_step(whole / CHECKPOINTS)
        assert steps is not None
        on_progress("training again, to be killed")
        for attempt in range(ATTEMPTS):
            killed = Path(folder) / f"killed-{attempt}"
            with _running("train", *flags, *named, *saving, "--run-dir", str(killed)) as process:
                _wait_for(1, process, killed)
                time.sleep(random.uniform(0, (ended - began) / (attempt + 1)))
                process.kill()
                if process.wait() > 0:
                    _finish(process)
            killed_at = latest_step(killed / CHECKPOINTS)
            if killed_at is not None and killed_at < steps:
                break
        else:
            raise RlgdError("each run ended before it was killed; give it more --total-timesteps.")
        on_progress(f"killed; resuming from step {killed_at:,}")
        with _running("resume", str(killed), *named, *own, "--quiet") as process:
            _finish(process)
        on_progress("comparing")
        return compare(config_file.read(whole, env), whole, killed, killed_at)


def compare(config: RunConfig, whole: Path, killed: Path, killed_at: int) -> Verdict:
    """Compare two runs that should be the same."""
    on_device = isinstance(config.env, DeviceEnv)
    steps = latest_step(whole / CHECKPOINTS)
    assert steps is not None
    one, other = (_compared(config, run, steps if on_device else killed_at) for run in (whole, killed))
    differences = [name for name, value in one.items() if value.tobytes() != other[name].tobytes()]
    number = 0
    if on_device:
        curves = rows(whole)
        number = len(curves)
        differences += ["the curves"] if curves != rows(killed) else []
    return Verdict(steps, killed_at, on_device, len(one), number, tuple(differences))


def state(config: RunConfig, run: Path, steps: int) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint by name, random keys as integers."""
    agent, env = config.agent.prepared(), config.env
    like = jax.eval_shape(lambda key: initialize(agent, env, key), jax.random.key(0))
    manifest.verified(run / CHECKPOINTS, steps)
    loop: LoopState = restore(run / CHECKPOINTS, steps, like)
    return {name: np.asarray(value) for name, value in named_leaves(loop).items()}


def rows(run: Path) -> list[dict[str, float]]:
    """The curves, without times."""
    lines = [json.loads(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds" and not k.startswith("time/")} for line in lines]


def _compared(config: RunConfig, run: Path, steps: int) -> dict[str, np.ndarray]:
    """The arrays to compare; on the host only the learner's, because new episodes begin there."""
    arrays = state(config, run, steps)
    if isinstance(config.env, DeviceEnv):
        return arrays
    learner = ("agent_state.", "key", "iteration", "progress")
    return {name: value for name, value in arrays.items() if name.startswith(learner)}


@contextlib.contextmanager
def _running(*arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command that does not outlive its caller."""
    process = subprocess.Popen([sys.executable, "-m", "rlgd", *arguments], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(steps: int, process: "subprocess.Popen[bytes]", run: Path) -> float:
    """Wait for a checkpoint of at least ``steps``, or the end of the process; returns the time."""
    while (latest_step(run / CHECKPOINTS) or 0) < steps and process.poll() is None:
        time.sleep(0.01)
    return time.monotonic()


def _finish(process: "subprocess.Popen[bytes]") -> None:
    if code := process.wait():
        error = RlgdError("one of the runs failed; its message is above.")
        error.exit_code = code
        raise error
