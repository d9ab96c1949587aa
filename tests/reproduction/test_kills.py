"""SIGKILL at any instant, of a reproduction with worker processes: in the end all scores are there, and the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlgd.reproduction.runs import SCORE
from rlgd.run.verify import rows
from tests.support.processes import wait_for
from tests.support.tiny_suite import PRESETS, SUITE

KILLS, SEEDS = 20, 50
# The command with the tiny suite in place of the shipped ones.
COMMAND = """
import sys
from pathlib import Path
from rlgd.agents import presets
from rlgd.cli import main
from rlgd.reproduction import suite
suite.FILES = presets.FOLDER = Path(sys.argv[1])
sys.exit(main.main(sys.argv[2:]))
"""


def reproduce(root: Path, data: Path) -> "subprocess.Popen[str]":
    arguments = ("reproduce", "tiny", "--seeds", str(SEEDS), "--only", "CartPole-v1:a2c", "--workers", "2")
    command = [sys.executable, "-c", COMMAND, str(data), *arguments, "--run-dir", str(root)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def scores(root: Path) -> dict[str, dict[str, float]]:
    found = sorted(root.glob(f"CartPole-v1-a2c/seed*/{SCORE}"))
    return {path.parent.name: json.loads(path.read_text()) for path in found}


@pytest.mark.slow
def test_a_reproduction_that_is_killed_again_and_again_has_the_same_scores(tmp_path: Path) -> None:
    """Half of the kills leave the worker processes alone, which save their runs; the others hit them too."""
    chance, data = random.Random(0), tmp_path / "suite"
    data.mkdir()
    (data / "tiny.toml").write_text(SUITE.replace("512", "8192", 1))
    (data / "a2c.toml").write_text(PRESETS.replace("512", "8192", 1))
    root, whole = tmp_path / "runs", tmp_path / "whole"
    done = reproduce(whole, data)
    _, error = done.communicate(timeout=600)
    assert done.returncode == 0, error
    begin = time.monotonic()
    process = reproduce(root, data)
    wait_for(process, lambda: scores(root))
    warm = time.monotonic() - begin
    for number in range(KILLS):
        before = scores(root)
        end = time.monotonic() + chance.uniform(0.2 * warm, warm)
        while time.monotonic() < end and scores(root) == before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, f"it ended before kill {number + 1}: {process.communicate()}"
        if number % 2:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        _, error = process.communicate(timeout=60)
        assert process.returncode == -9, error
        assert "Traceback" not in error
        assert before.items() <= scores(root).items()
        process = reproduce(root, data)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    assert len(scores(root)) == SEEDS
    assert scores(root) == scores(whole)
    for seed in scores(whole):
        runs = [place / "CartPole-v1-a2c" / seed for place in (root, whole)]
        assert rows(runs[0]) == rows(runs[1])
