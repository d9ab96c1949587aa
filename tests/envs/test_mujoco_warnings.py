"""MuJoCo's warnings appear once on stderr, and leave no file where a command was started."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mujoco")

MADE = """
import rlgd.envs
vector = rlgd.envs.make("HalfCheetah-v5", vectorization={!r}).open(2)
vector.reset(0)
vector.close()
"""
UNSTABLE = """
import gymnasium, numpy as np
import rlgd.envs
vector = gymnasium.make_vec("rlgd/HalfCheetah-v5", 2, "vector_entry_point")
vector.reset(seed=0)
for env in vector.envs:
    env.unwrapped.data.qvel[:] = 1e20
    vector.step(np.zeros((2, 6), np.float32))
vector.close()
"""


def printed(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert list(folder.iterdir()) == []
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("vectorization", ["threads", "sync", "async"])
def test_a_model_of_gymnasium_is_made_in_silence(vectorization: str, tmp_path: Path) -> None:
    assert printed(MADE.format(vectorization), tmp_path) == ""


def test_a_check_leaves_no_file(tmp_path: Path) -> None:
    assert printed("from rlgd.envs.check.checker import check; check('HalfCheetah-v5', steps=20)", tmp_path) == ""


def test_a_simulation_that_fails_says_so_once(tmp_path: Path) -> None:
    (line,) = printed(UNSTABLE, tmp_path).splitlines()
    assert line.startswith("MuJoCo: ")
    assert "unstable" in line


def test_a_handler_of_somebody_else_stays(tmp_path: Path) -> None:
    seen = 'import mujoco; heard = []; mujoco.set_mju_user_warning(lambda text: heard.append("heard"))\n'
    assert printed(f"{seen}{UNSTABLE}\nassert 'heard' in heard", tmp_path) == ""


def test_a_stderr_that_refuses_does_not_end_the_process(tmp_path: Path) -> None:
    """MuJoCo calls from C, where an exception of Python would abort."""
    refusing = """
import sys, types
def refuse(text):
    raise BrokenPipeError
sys.stderr = types.SimpleNamespace(write=refuse)
"""
    assert printed(f"{refusing}{UNSTABLE}\nsys.stderr = None", tmp_path) == ""
