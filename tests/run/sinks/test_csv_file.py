"""``metrics.csv``: the rows of ``metrics.jsonl``, each once, wherever a run was cut."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.errors import UsageError
from tests.support.small_runs import AGENT, At, copy, train


def table(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: float(x) for name, x in row.items() if x != ""} for row in csv.DictReader(file)]


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def stop() -> Any:
    raise KeyboardInterrupt


def test_the_table_has_every_row_and_a_column_for_what_comes_later(tmp_path: Path) -> None:
    train(tmp_path, eval_every=512, sinks=["csv"])
    assert table(tmp_path) == lines(tmp_path)
    head = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert head[:2] == ["step", "seconds"]
    assert head[-2:] == ["eval/episode_return", "eval/episode_length"]


def test_a_resumed_run_has_no_row_twice_and_none_lost(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, sinks=["csv", At(300, stop)])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("999,1.0\n")  # of a process that was killed after its last checkpoint
    rlgd.resume(tmp_path, sinks=["csv"])
    assert table(tmp_path) == lines(tmp_path)
    assert [row["step"] for row in table(tmp_path)] == sorted(row["step"] for row in lines(tmp_path))


def test_a_run_that_had_no_table_gets_one_when_it_is_resumed(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult]
) -> None:
    run = copy(written, tmp_path)
    rlgd.resume(run, total_timesteps=2048, sinks=["csv"])
    assert table(run) == lines(run)


def test_a_file_of_somebody_else_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / "metrics.csv"
    other.write_text("name,price\ntea,3\n")
    train(tmp_path, sinks=["csv"])
    train(tmp_path, overwrite=True)
    assert other.read_text() == "name,price\ntea,3\n"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "without the sink csv" in warning
    assert "is in the way, and was not written by a run" in warning


def test_an_overwritten_run_takes_its_table_along(tmp_path: Path) -> None:
    train(tmp_path, sinks=["csv"])
    train(tmp_path, overwrite=True)
    assert not (tmp_path / "metrics.csv").exists()


def test_without_a_directory_there_is_no_table() -> None:
    with pytest.raises(UsageError, match="the sink csv writes in a run's directory, and here is none"):
        rlgd.train(AGENT, "CartPole-v1", total_timesteps=64, sinks=["csv"])
