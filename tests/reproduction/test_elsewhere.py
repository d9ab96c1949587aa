"""Runs of a suite on an engine: the same scores, after deaths of workers and signals too."""

import signal
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rlgd.cli import main
from rlgd.engines import EngineChoice
from rlgd.errors import Interrupted
from rlgd.reproduction import elsewhere
from rlgd.reproduction.elsewhere import PERMIT
from rlgd.reproduction.jobs import unfinished_jobs
from rlgd.reproduction.runs import RowRuns
from rlgd.run import layout
from rlgd.system.signals import PollSignal
from tests.support.engine_jobs import DiesOnce, die
from tests.support.scripts import ROOT
from tests.support.tiny_suite import runs_of, scores, set_nothing_up, train

ENGINES = {"slurm": EngineChoice("slurm", arguments={"cluster": "local"}), "dask": EngineChoice("dask")}


def train_on(
    executor: Executor | None, runs: RowRuns, set_up: Any = set_nothing_up, poll_signal: PollSignal = lambda: None
) -> list[str | None]:
    """Train what is not finished on an executor; the problem of each run, None for success."""
    assert executor is not None
    problems: list[str | None] = []
    runs.directory.mkdir(parents=True, exist_ok=True)
    elsewhere.train_jobs(
        unfinished_jobs([runs]), runs.directory, executor, 1, set_up, poll_signal,
        lambda job, problem: problems.append(problem),
    )  # fmt: skip
    assert not (runs.directory / PERMIT).exists()
    return problems


@pytest.mark.slow
def test_an_executor_gives_the_same_scores() -> None:
    here, there = runs_of(root="here"), runs_of(root="there")
    with ThreadPoolExecutor(1) as pool:
        assert train(here) == train_on(pool, there) == [None, None]
    assert scores(here) == scores(there)


def test_a_signal_takes_the_permit_away_and_the_runs_are_saved() -> None:
    runs, whole = runs_of(), runs_of(root="whole")
    started = runs.directory / "seed0" / layout.CONFIG
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(Interrupted, match="the same command resumes it") as caught:
            train_on(pool, runs, poll_signal=lambda: int(signal.SIGTERM) if started.exists() else None)
        assert caught.value.exit_code == 143
        assert None in scores(runs)
        assert set(train_on(pool, runs)) == {None}
    assert train(whole) == [None, None]
    assert scores(runs) == scores(whole)


@pytest.mark.parametrize("content", [None, "another one's"])
def test_a_worker_that_is_left_from_another_call_stops(content: str | None, tmp_path: Path) -> None:
    watch = elsewhere._Watch(tmp_path / PERMIT, "mine")
    (tmp_path / PERMIT).write_text("mine")
    assert watch() is None
    watch = elsewhere._Watch(tmp_path / PERMIT, "mine")
    (tmp_path / PERMIT).unlink() if content is None else (tmp_path / PERMIT).write_text(content)
    assert watch() == signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_a_run_whose_worker_is_killed_is_resumed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"slurm": "submitit", "dask": "distributed"}[name])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # workers import this folder, and are started in another one
    here, there = runs_of(root="here"), runs_of(root="there")
    with ENGINES[name].executor(1, tmp_path / "jobs") as executor:
        assert train_on(executor, there, DiesOnce(tmp_path / "died")) == [None, None]
    assert (tmp_path / "died").exists()
    assert train(here) == [None, None]
    assert scores(here) == scores(there)


@pytest.mark.slow
def test_a_run_whose_workers_always_die_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with ENGINES["dask"].executor(1, tmp_path / "jobs") as executor:
        first, second = train_on(executor, runs_of(), die)
    assert str(first).startswith("its worker died 3 times")
    assert str(second).startswith("its worker died 3 times")


@pytest.mark.slow
def test_the_command_takes_an_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    command = ["reproduce", "tiny", "--seeds", "2", "--only", "CartPole-v1:a2c", "--quiet"]
    assert main.main([*command, "--run-dir", "here"]) == 0
    assert main.main([*command, "--run-dir", "there", "--engine", "slurm", "--engine-arg", "cluster=local"]) == 0
    capsys.readouterr()
    found = [[path.read_bytes() for path in sorted(Path(root).rglob("score.json"))] for root in ("here", "there")]
    assert len(found[0]) == 2
    assert found[0] == found[1]
    assert main.main([*command, "--engine", "local", "--engine-address", "host:1"]) == 2
    assert "the engine local has none" in capsys.readouterr().err
