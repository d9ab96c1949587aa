"""``rlgd verify-resume``: it finds that resuming is exact, and it would find if it were not."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.run import config_file, verify
from rlgd.run.verify import Verdict

AGENT = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0)


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "rlgd", "verify-resume", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.slow
def test_of_a_run_on_the_device(tmp_path: Path) -> None:
    rlgd.train(AGENT, "CartPole-v1", total_timesteps=64, eval_episodes=2, run_dir=tmp_path / "run")
    done = command(str(tmp_path / "run"), "--total-timesteps", "100k")
    assert done.returncode == 0, done.stderr
    assert "compared: the whole state at the end (" in done.stdout
    assert done.stdout.endswith("resuming is exact\n")
    assert "killed; resuming from step " in done.stderr


@pytest.mark.slow
def test_of_a_configuration_on_the_host(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'agent = "a2c"\nenv = "CartPole-v1"\nbackend = "host"\ntotal-timesteps = 20_000\nnum-envs = 4\n'
        "hidden-sizes = [8]\nmeasure-every = 0\neval-episodes = 2\n"
    )
    done = command(str(path), "--json")
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["exact"]
    assert not verdict["on_device"]
    assert 0 < verdict["killed_at"] < verdict["steps"]
    assert verdict["arrays"] > 20


def test_a_difference_is_found_and_named(tmp_path: Path) -> None:
    """A run beside one with another seed: as if resuming had changed everything."""
    one, other, same = (tmp_path / name for name in ("one", "other", "same"))
    for seed, run in enumerate((one, other)):
        rlgd.train(AGENT, "CartPole-v1", total_timesteps=64, eval_episodes=2, run_dir=run, seed=seed)
    config = config_file.read(one, None)
    verdict = verify.compare(config, one, other, 32)
    assert not verdict.exact
    assert {"key", "the curves"} <= set(verdict.differences)
    assert "differs:  key" in verdict.sentences()
    assert verdict.sentences().endswith("resuming is NOT exact")
    shutil.copytree(one, same)
    assert verify.compare(config, one, same, 32).exact
    curves = same / "metrics.jsonl"
    curves.write_text(curves.read_text().replace('"train/entropy": 0.', '"train/entropy": 1.', 1))
    assert verify.compare(config, one, same, 32).differences == ("the curves",)


@pytest.mark.parametrize("differences", [(), ("key",)])
def test_the_verdict_says_what_was_compared(differences: tuple[str, ...]) -> None:
    verdict = Verdict(100, 40, True, 7, 3, differences)
    assert verdict.exact == (not differences)
    assert "resumed from step 40" in verdict.sentences()
    assert "(3 rows, without times)" in verdict.sentences()
    on_host = dataclasses.replace(verdict, on_device=False).sentences()
    assert "the learner's state where it was resumed (7 arrays, bit for bit)" in on_host


def test_a_run_that_fails_is_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('agent = "a2c"\nenv = "CartPole-v1"\ngamma = 7\n')
    done = command(str(path), "--quiet")
    assert done.returncode == 2
    assert "gamma is 7" in done.stderr
    assert "one of the runs failed" in done.stderr
    assert np.all([line.startswith("rlgd: error: ") for line in done.stderr.splitlines()])
