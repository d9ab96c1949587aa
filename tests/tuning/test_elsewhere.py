"""Searches on executors: as many trials as were asked for, whoever runs them and whatever dies."""

import subprocess
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.cli import main
from rlgd.engines import EngineChoice
from rlgd.errors import EnvironmentFault, UsageError
from tests.support.engine_jobs import DiesOnce, die

AGENT: dict[str, Any] = {"num_envs": 2, "rollout_length": 8, "hidden_sizes": (4,), "measure_every": 0}


def tune(directory: Path, executor: Executor | None, trials: int = 4, **more: Any) -> rlgd.tuning.TuneResult:
    pytest.importorskip("optuna")
    agent = rlgd.agents.A2C(**AGENT)
    return rlgd.tune(
        agent, "CartPole-v1", {"learning_rate": {"log": [1e-4, 1e-1]}}, trials=trials, seeds=1, fresh_seeds=1,
        total_timesteps=64, eval_episodes=1, tune_dir=directory, executor=executor, **more,
    )  # fmt: skip


@pytest.mark.slow
def test_an_executor_runs_the_trials_of_this_process_one_at_a_time(tmp_path: Path) -> None:
    here, seen = tune(tmp_path / "here", None), []
    with ThreadPoolExecutor(1) as executor:
        there = tune(
            tmp_path / "there", executor, workers=1,
            on_trial=lambda number, state, score, values: seen.append((number, state)),
        )  # fmt: skip
    assert [(trial["values"], trial["score"]) for trial in there.trials] == [
        (trial["values"], trial["score"]) for trial in here.trials
    ]
    assert seen == [(trial["number"], trial["state"]) for trial in there.trials]
    assert there.best == here.best
    assert there.fresh == here.fresh


@pytest.mark.slow
def test_processes_share_a_search_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("dask")
    with EngineChoice("dask").executor(2, tmp_path / "jobs") as executor:
        result = tune(tmp_path / "search", executor, set_up=DiesOnce(tmp_path / "died"))
    assert (tmp_path / "died").exists()
    assert len(result.trials) == 4


@pytest.mark.slow
def test_a_trial_whose_workers_always_die_is_given_up(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    engine, message = (
        EngineChoice("slurm", arguments={"cluster": "local"}),
        "a trial was given up after 2 restarts: its worker died 3 times",
    )
    with engine.executor(1, tmp_path / "jobs") as executor, pytest.raises(EnvironmentFault, match=message):
        tune(tmp_path / "search", executor, trials=1, set_up=die)
    assert len(tune(tmp_path / "search", None, trials=1).trials) == 1


@pytest.mark.slow
def test_the_command_takes_an_engine(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    flags = ["--num-envs", "2", "--rollout-length", "8", "--hidden-sizes", "4", "--total-timesteps", "64"]
    done = subprocess.run(
        [
            sys.executable, "-m", "rlgd", "tune", "a2c", "--env", "CartPole-v1", "--search", "gamma=0.9,0.99",
            "--trials", "2", "--seeds", "1", "--fresh-seeds", "1", "--eval-episodes", "1", *flags,
            "--engine", "slurm", "--engine-arg", "cluster=local", "--workers", "2", "--run-dir", "search",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "trial 0:" in done.stderr
    assert "trial 1:" in done.stderr
    assert "search:      search" in done.stdout


def test_workers_need_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", "a2c", "--env", "CartPole-v1", "--search", "gamma=0.9,0.99", "--workers", "2"]
    assert main.main(words) == 2
    assert "workers is set, but this process runs one trial after another" in capsys.readouterr().err


def test_what_is_no_executor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a concurrent\.futures\.Executor"):
        tune(tmp_path / "search", "dask")  # type: ignore[arg-type]
