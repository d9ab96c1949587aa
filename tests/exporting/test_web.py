"""An exported policy in JavaScript, by onnxruntime-web under Node. ``make test`` installs it where npm is."""

import shutil
import subprocess
from pathlib import Path

import pytest

import rlgd
from rlgd.exporting import export_run
from tests.exporting.test_folder import block

PACKAGES = Path(__file__).parents[2] / ".web" / "node_modules"
PLAYER = Path(__file__).with_name("cartpole.mjs")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not PACKAGES.is_dir(), reason="needs Node, and npm for make test to install with"
)


def node(folder: Path, script: str, *arguments: str) -> list[str]:
    """What a program prints that imports from ``PACKAGES``."""
    (folder / "program.mjs").write_text(script)
    (folder / "node_modules").symlink_to(PACKAGES)
    command = ["node", "program.mjs", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split()


def test_javascript_plays_cartpole_as_well_as_the_run(tmp_path: Path) -> None:
    rlgd.train("ppo", "CartPole-v1", total_timesteps=100_000, run_dir=tmp_path / "run", eval_episodes=10)
    folder = export_run(tmp_path / "run", tmp_path / "export")
    returns = list(map(int, node(folder, PLAYER.read_text(), "policy.onnx", "10")))
    assert len(returns) == 10
    assert sum(returns) / 10 >= 475


def test_the_program_of_the_card_runs(tmp_path: Path) -> None:
    agent = rlgd.agents.A2C(num_envs=2, rollout_length=8, network="lstm", memory_width=4, measure_every=0)
    rlgd.train(agent, "Taxi-v4", total_timesteps=16, run_dir=tmp_path / "run", eval_episodes=1)
    folder = export_run(tmp_path / "run", tmp_path / "export")
    printed = node(folder, block((folder / "README.md").read_text(), "javascript"))
    assert "BigInt64Array(1)" in printed[0]
