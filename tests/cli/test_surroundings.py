"""What a command may find around it: no home, no terminal, another locale, nobody who reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.marks import quick

FLAGS = [
    *("train", "a2c", "--env", "CartPole-v1", "--num-envs", "4", "--rollout-length", "8", "--hidden-sizes", "8"),
    *("--total-timesteps", "64", "--eval-episodes", "2", "--measure-every", "0", "--run-dir", "run"),
]
SURROUNDINGS: dict[str, dict[str, str | None]] = {
    "no home": {"HOME": None, "XDG_CACHE_HOME": None},
    "a home that cannot be written": {"HOME": "/proc", "XDG_CACHE_HOME": None},
    "plain locale": {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    "dumb terminal": {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "20"},
    "far away": {"TZ": "Pacific/Kiritimati"},
    "no matplotlib cache": {"MPLCONFIGDIR": "/proc/none"},
}


@pytest.mark.parametrize("name", quick(["no home", "plain locale"], SURROUNDINGS))
def test_training_works(name: str, tmp_path: Path) -> None:
    env = {k: v for k, v in {**os.environ, **SURROUNDINGS[name]}.items() if v is not None}
    argv = [sys.executable, "-m", "rlgd", *FLAGS]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "evaluation: mean return" in done.stdout


@pytest.mark.parametrize(
    "shell",
    quick(
        ["{} | head -n 1", "{} >&- 2>&-"],
        [
            "{} | head -n 1",
            "{} | true",
            "{} >&-",
            "{} 2>&- >/dev/null",
            "{} </dev/null",
            "{} 2> /dev/full",
            "{} >&- 2>&-",
        ],
    ),
)
def test_nobody_has_to_read_the_output(shell: str, tmp_path: Path) -> None:
    command = " ".join([sys.executable, "-m", "rlgd", *FLAGS])
    done = subprocess.run(
        ["sh", "-c", shell.format(command)], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "summary.json").exists()


def test_an_output_that_cannot_be_written_is_named() -> None:
    command = f"{sys.executable} -m rlgd list agents > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (5, "rlgd: error: an output cannot be written: No space left on device.\n")
