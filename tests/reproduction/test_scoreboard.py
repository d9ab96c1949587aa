"""The table of results, and its page."""

import dataclasses
from pathlib import Path

import pytest

import rlgd
from rlgd.reproduction import page, scoreboard
from rlgd.reproduction.runs import SeedRun
from rlgd.reproduction.scoreboard import RowResult, row_result
from rlgd.reproduction.suite import Published, read_suite
from tests.support.tiny_suite import runs_of, train


def result(*scores: float) -> RowResult:
    """Of a row that requires 5, from two seeds."""
    runs = runs_of()
    finished = tuple(SeedRun(n, runs.directory / f"seed{n}", True, score, 2.0) for n, score in enumerate(scores))
    return RowResult(runs, finished)


@pytest.mark.parametrize(
    ("scores", "reached"), [((), False), ((9.0,), False), ((4.0, 5.0), False), ((5.0, 5.0), True), ((3.0, 9.0), True)]
)
def test_the_score_is_reached_by_the_mean_of_all_seeds(scores: tuple[float, ...], reached: bool) -> None:
    assert result(*scores).reached is reached


def test_a_row_of_the_table() -> None:
    heads, _, line = scoreboard.table([result(4.0, 9.0)]).splitlines()
    cells = dict(zip(*([cell.strip() for cell in row.strip("|").split("|")] for row in (heads, line)), strict=True))
    assert cells["seeds"] == "2"
    assert cells["rlgd"].startswith("6.5 [")
    assert (cells["worst"], cells["required"], cells["seeds reaching it"]) == ("4.0", "5", "1 of 2")
    assert cells["published"] == "nobody 500.25 ± 0 (1.5k, v0)"
    assert "| 1 of 2 | 4.0 " in scoreboard.table([result(4.0)])


def test_a_row_may_be_scored_as_its_policy_explores() -> None:
    suite = read_suite("tiny")
    whole = page.markdown(suite, [result()])
    assert "- rlgd: the mean return of the greedy policy over 100 episodes in Gymnasium, different" in whole
    explores = suite._replace(rows=(suite.rows[0]._replace(sampled=True), *suite.rows[1:]))
    explored = page.markdown(explores, [result()])
    assert "the greedy policy (in CartPole-v1:a2c: of the policy as it explores) over 100" in explored
    means = []
    for sampled in (False, True):
        runs = dataclasses.replace(runs_of(root=str(sampled), seeds=1), row=suite.rows[0]._replace(sampled=sampled))
        assert train(runs) == [None]
        policy = rlgd.load(runs.directory / "seed0")
        means.append(rlgd.evaluate(policy, "CartPole-v1", seed=2_000_000, deterministic=not sampled).mean)
        assert runs.seed_runs()[0].score == means[-1]
        other = dataclasses.replace(runs, row=suite.rows[0]._replace(sampled=not sampled))
        assert other.seed_runs()[0].score is None, "a score of the other kind"
    assert means[0] != means[1]


def test_records_have_plain_values() -> None:
    (record,) = scoreboard.records([result(4.0)])
    assert record["scores"] == {0: 4.0}
    assert record["interquartile_mean"] == {"value": 4.0, "low": None, "high": None}
    (empty,) = scoreboard.records([result()])
    assert (empty["scores"], empty["interquartile_mean"], empty["reached"]) == ({}, None, False)


def test_a_row_that_cannot_be_trained_says_why() -> None:
    missing = row_result(runs_of(2))
    assert missing.problem == "no preset of ppo for CartPole-v1; it has none."
    assert missing.score is None


def test_where_the_table_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path("runs/reproduce/tiny")
    assert page.default_path("tiny", root, True) == root / "reproduce-tiny.md"
    monkeypatch.chdir(Path(page.__file__).resolve().parents[2])
    assert page.default_path("tiny", root, True) == Path("docs/reproduce-tiny.md")
    assert page.default_path("tiny", root, False) == root / "reproduce-tiny.md"


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (Published("CleanRL", 490.04, 6.12, 500_000), "CleanRL 490.04 ± 6.12 (500k)"),
        (Published("zoo", -73.5, None, 1_000_000), "zoo -73.5 (1M)"),
        (Published("zoo", 5783.9, 1244, note="v3"), "zoo 5783.9 ± 1244 (v3)"),
        (Published("zoo", 1), "zoo 1"),
    ],
)
def test_a_published_score_in_short(score: Published, text: str) -> None:
    assert scoreboard.in_short(score) == text
