"""Which runs a row needs, and how far each of them is."""

from pathlib import Path

import pytest

from rlgd.agents import presets
from rlgd.errors import UsageError
from rlgd.reproduction.jobs import Job, unfinished_jobs
from rlgd.reproduction.runs import SCORE, read_score, row_runs, select_rows
from rlgd.reproduction.suite import read_suite
from rlgd.run.layout import SUMMARY
from tests.support.tiny_suite import PRESETS, runs_of, scores, train


@pytest.mark.parametrize("lost", [SCORE, SUMMARY, "checkpoints"])
def test_what_a_kill_left_is_completed(lost: str) -> None:
    runs = runs_of(seeds=1)
    train(runs)
    expected = scores(runs)
    directory = runs.seed_runs()[0].directory
    if lost == "checkpoints":  # killed before the first one
        for path in (directory / lost).iterdir():
            path.rename(path.with_name(f"{path.name}.tmp"))
        (directory / SCORE).unlink()
    else:
        (directory / lost).unlink()
    assert [(run.started, run.score) for run in runs.seed_runs()] == [(lost != "checkpoints", None)]
    assert train(runs) == [None]
    assert scores(runs) == expected


def test_a_folder_without_a_score_has_none(tmp_path: Path) -> None:
    assert read_score(tmp_path / "nowhere", sampled=False) == (None, 0.0)
    (tmp_path / SCORE).write_text("{")
    assert read_score(tmp_path, sampled=False) == (None, 0.0)


def test_an_extra_that_is_missing_is_named() -> None:
    suite = read_suite("tiny")._replace(extra="box2d", module="no_such_module")
    with pytest.raises(UsageError, match=r"not installed: pip install 'rlgd\[box2d\]'"):
        row_runs(suite, Path("runs"), None)


def test_a_preset_that_trains_longer_than_the_table_allows_is_refused() -> None:
    (presets.FOLDER / "a2c.toml").write_text(PRESETS.replace("= 512", "= 513", 1))  # type: ignore[attr-defined]
    assert runs_of().why_not == "its preset trains 513 steps; the table allows 512."


def test_seeds_by_where_the_environment_runs() -> None:
    assert runs_of(seeds=None).seeds == 20
    row = runs_of().row._replace(env="LunarLander-v3")
    suite = read_suite("tiny")._replace(rows=(row,))
    assert row_runs(suite, Path("runs"), None)[0].seeds == 5


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ([], ["CartPole-v1:a2c", "rlgd/CartPoleNoVelocity-v1:a2c", "CartPole-v1:ppo"]),
        (["CartPole-v1"], ["CartPole-v1:a2c", "CartPole-v1:ppo"]),
        (["CartPole-v1:a2c"], ["CartPole-v1:a2c"]),
    ],
)
def test_rows_are_selected_by_name(only: list[str], names: list[str]) -> None:
    suite = read_suite("tiny")
    assert [runs.row.name for runs in select_rows(suite, row_runs(suite, Path("runs"), 1), only)] == names


def test_a_job_can_be_sent_to_another_process() -> None:
    job = unfinished_jobs([runs_of()])[0]
    assert isinstance(job, Job)
    assert (job.row, job.env, job.seed, job.started) == ("CartPole-v1:a2c", "CartPole-v1", 0, False)
