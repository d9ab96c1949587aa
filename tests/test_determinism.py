"""The same command gives the same bits: in another process, directory, hash seed and state of the cache."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from rlgd.run.verify import rows
from tests.support.processes import FLAGS, state

COMMAND = [sys.executable, "-m", "rlgd", "train", *FLAGS, "--total-timesteps", "100000", "--run-dir", "run"]


def fingerprint(run: Path) -> str:
    content = {name: value.tobytes() for name, value in state(run).items()}
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()


def test_the_same_command_gives_the_same_bits(tmp_path: Path) -> None:
    runs = []
    for number, (seed, cache) in enumerate([("0", "cold"), ("12345", "cold"), ("random", "other")]):
        place = tmp_path / f"place {number}"
        place.mkdir()
        # The second one finds what the first one compiled, the third one compiles itself.
        own = {"PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(tmp_path / cache), "TZ": "Asia/Tokyo", "LC_ALL": "C"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        done = subprocess.run(
            COMMAND, cwd=place, env=kept | own, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        runs.append(place / "run")
    one, *others = runs
    for other in others:
        assert fingerprint(other) == fingerprint(one)
        assert rows(other) == rows(one)
        for name, value in state(one).items():
            np.testing.assert_array_equal(value, state(other)[name])
