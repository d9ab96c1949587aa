"""``rlgd train``, and what follows it, as a user meets them: real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = [
    "--total-timesteps",
    "256",
    "--num-envs",
    "2",
    "--rollout-length",
    "16",
    "--hidden-sizes",
    "4",
    "--eval-episodes",
    "2",
]


def rlgd(*argv: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlgd", *argv]
    return subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module", name="trained")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("cli")
    argv = ["train", "a2c", "--env", "CartPole-v1", *TINY, "--optimizer", "momentum", "--momentum", "0.5"]
    return folder, rlgd(*argv, cwd=folder, XDG_CACHE_HOME=str(folder / "cache"))


def run_of(folder: Path) -> Path:
    return next((folder / "runs" / "CartPole-v1" / "a2c").iterdir())


def test_train_ends_with_the_evaluation_and_what_to_do_next(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = trained
    assert done.returncode == 0, done.stderr
    assert "A2C on cpu; CartPole-v1 on the device" in done.stderr
    assert "256 / 256 steps" in done.stderr
    assert "over 2 episodes in CartPole-v1 (greedy policy)" in done.stdout
    assert f"run:         {run_of(folder).relative_to(folder)}" in done.stdout
    assert "tensorboard --logdir runs" in done.stdout
    cache = folder / "cache" / "rlgd" / "xla"
    assert list(cache.iterdir())
    assert cache.stat().st_mode & 0o077 == 0


def test_the_run_can_be_evaluated_resumed_and_repeated(
    trained: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, _ = trained
    run = str(run_of(folder))
    evaluated = rlgd("eval", run, "--episodes", "3", "--sampled", "--json", cwd=folder)
    assert evaluated.returncode == 0, evaluated.stderr
    result = json.loads(evaluated.stdout)
    assert len(result["returns"]) == result["episodes"] == 3
    assert result["policy"] == "sampled"
    complete = rlgd("resume", run, cwd=folder)
    assert "already complete (256 steps)" in complete.stdout, complete.stderr
    resumed = rlgd("resume", run, "--total-timesteps", "512", "--learning-rate", "1e-4", "--json", cwd=folder)
    assert json.loads(resumed.stdout)["steps"] == 512, resumed.stderr
    argv = [
        "train",
        "a2c",
        "--config",
        f"{run}/config.json",
        "--total-timesteps",
        "128",
        "--json",
        "--run-dir",
        "again",
    ]
    repeated = rlgd(*argv, cwd=tmp_path)
    assert repeated.returncode == 0, repeated.stderr
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (config["hyperparameters"]["momentum"], config["hyperparameters"]["hidden_sizes"]) == (0.5, [4])
    assert config["settings"]["total_timesteps"] == 128


@pytest.mark.slow
def test_divergence_ends_with_4(tmp_path: Path) -> None:
    argv = ["train", "a2c", "--env", "CartPole-v1", *TINY, "--optimizer", "sgd", "--learning-rate", "1e30"]
    done = rlgd(*argv, "--max-grad-norm", "1e30", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "training diverged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_on_a_game_of_atari_is_evaluated_and_resumed_by_its_name_alone(tmp_path: Path) -> None:
    """ale-py registers its games when it is imported, which no other process has done for them."""
    pytest.importorskip("ale_py")
    small = ["--no-preset", "--network", "flat", "--max-episode-steps", "8", "--run-dir", "run"]
    trained = rlgd("train", "a2c", "--env", "ALE/Pong-v5", *TINY, *small, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    evaluated = rlgd("eval", "run", "--episodes", "1", cwd=tmp_path)
    assert "over 1 episodes in ALE/Pong-v5" in evaluated.stdout, evaluated.stderr
    resumed = rlgd("resume", "run", "--total-timesteps", "320", "--json", cwd=tmp_path)
    assert json.loads(resumed.stdout)["steps"] == 320, resumed.stderr
