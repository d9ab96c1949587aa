"""Trials of a search as runs of sinks."""

import concurrent.futures
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.run import RunConfig
from rlgd.run.description import hyperparameters
from rlgd.run.sinks.rows import Row
from tests.support.small_study import A2C_SMALL

pytest.importorskip("optuna")


class Log:
    """Writes what it sees to a file, from any process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, config: RunConfig, run_dir: Path | None) -> None:
        assert config.part_of is not None
        self.words: list[Any] = [config.part_of.study, config.part_of.arm, config.settings.seed]
        self.words.append(hyperparameters(config)["learning_rate"])
        self.rows = 0

    def write(self, row: Row) -> None:
        self.rows += 1

    def close(self, summary: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            print(*self.words, self.rows > 0, summary["reason"], sep="|", file=file)


def tune(tmp_path: Path, **options: Any) -> tuple[rlgd.TuneResult, list[list[str]]]:
    log = tmp_path / "seen.txt"
    result = rlgd.tune(
        A2C_SMALL, "CartPole-v1", {"learning_rate": [0.01, 0.1]}, trials=2, seeds=2, total_timesteps=320,
        eval_episodes=2, tune_dir=tmp_path / "search", sinks=[Log(log)], **options,
    )  # fmt: skip
    return result, [line.split("|") for line in log.read_text().splitlines()]


def test_every_member_of_a_trial_is_a_run_in_the_group_of_the_search(tmp_path: Path) -> None:
    result, seen = tune(tmp_path, fresh_seeds=3)
    assert {study for study, *_ in seen} == {"tune search"}
    for record in result.trials:
        mine = [words for words in seen if words[1] == f"trial {record['number']}"]
        assert [seed for _, _, seed, *_ in mine] == ["0", "1"]
        assert {float(rate) for _, _, _, rate, *_ in mine} == {record["values"]["learning_rate"]}
        reason = "pruned" if record["state"] == "pruned" else "total_timesteps"
        assert {tuple(rest) for *_, rows, why in mine for rest in [(rows, why)]} == {("True", reason)}
    best = [words for words in seen if words[1] == "best"]
    assert [seed for _, _, seed, *_ in best] == ["2", "3", "4"]


@pytest.mark.slow
def test_workers_tell_sinks_too(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as executor:
        _, seen = tune(tmp_path, fresh_seeds=0, executor=executor)
    assert sorted((arm, seed) for _, arm, seed, *_ in seen) == [
        (f"trial {trial}", seed) for trial in (0, 1) for seed in ("0", "1")
    ]
