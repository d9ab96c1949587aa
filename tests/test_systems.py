"""Systems other than the one that the tests run on: what they lack is taken away here."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WINDOWS = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); os.name = 'nt'; import rlgd"
# macOS has no affinity of processes, no fallocate and no control groups.
MACOS = """
import os
from pathlib import Path

del os.sched_getaffinity, os.posix_fallocate
open_file = Path.open

def without_linux(path, *args, **kwargs):
    if str(path).startswith(("/proc/self/cgroup", "/sys/fs/cgroup")):
        raise FileNotFoundError(path)
    return open_file(path, *args, **kwargs)

Path.open = without_linux
import rlgd
from rlgd.agents import A2C

agent = A2C(num_envs=2, rollout_length=8, hidden_sizes=(8,), measure_every=0)
for backend in ("device", "host"):
    run = Path(f"run-{backend}")
    rlgd.train(agent, "CartPole-v1", total_timesteps=64, eval_episodes=2, run_dir=run, backend=backend)
    assert rlgd.resume(run, total_timesteps=128).steps >= 128
"""


def run(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)


def test_windows_is_refused_in_one_sentence(tmp_path: Path) -> None:
    ended = run(WINDOWS, tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("ImportError: rlgd runs on Linux and macOS; on Windows, ")


def test_what_linux_alone_has_is_not_needed(tmp_path: Path) -> None:
    ended = run(MACOS, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
