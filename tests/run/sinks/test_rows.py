"""Rows of the curves from chunks of iterations, whatever the chunks' lengths."""

from typing import Any

import numpy as np
import pytest

from rlgd.run.sinks import rows
from rlgd.run.sinks.rows import Row, RowAverager
from rlgd.training.chunks import Chunk

LOOP: Any = None  # rows do not look at the state


def chunk(*values: float, steps: int = 10, seconds: float = 1.0, compiled: float = 0.0, name: str = "a") -> Chunk:
    """A chunk of iterations with one metric; an episode of return 3 and length 4 ends in each."""
    ones = np.ones(len(values), np.int32)
    metrics = {
        "rollout/steps": steps * ones,
        "rollout/episodes": ones,
        "rollout/return_sum": np.float32(3) * ones,
        "rollout/length_sum": 4 * ones,
        name: np.array(values, np.float32),
    }
    return Chunk(LOOP, 0, metrics, seconds, compiled)


def test_a_row_is_the_mean_over_its_iterations() -> None:
    row, after = [*RowAverager(every=2).rows(chunk(1.0, 3.0, 5.0, 7.0, seconds=2.0, compiled=0.5))]
    assert (row.step, row.seconds) == (20, 1.0)
    assert row.values == {
        "a": 2.0,
        "rollout/episodes": 2.0,
        "rollout/episode_return": 3.0,
        "rollout/episode_return_100": 3.0,
        "rollout/episode_length": 4.0,
        "time/training_seconds": 1.0,
        "time/compile_seconds": 0.5,
        "time/steps_per_second": 20.0,
    }
    assert (after.step, after.seconds, after.values["a"]) == (40, 2.0, 6.0)


@pytest.mark.parametrize("cuts", [[1], [2], [3], [5], [1, 2, 4], [1, 2, 3, 4, 5, 6]])
def test_where_chunks_end_changes_no_row(cuts: list[int]) -> None:
    def made(parts: list[np.ndarray]) -> list[Row]:
        averager = RowAverager(every=3)
        done = [row for part in parts for row in averager.rows(chunk(*part, seconds=len(part)))]
        return [*done, *averager.rest()]

    values = np.arange(7.0)
    whole = made([values])
    assert [row.step for row in whole] == [30, 60, 70]
    assert made(np.split(values, cuts)) == whole


def test_a_resumed_run_completes_the_row_that_was_begun() -> None:
    first = RowAverager(every=3)
    assert [*first.rows(chunk(1.0, 2.0))] == []
    pending = first.pending()
    assert pending["a"] == [1.0, 2.0]
    second = RowAverager(every=3, iteration=2, step=20, seconds=1.0, pending=pending)
    (row,) = second.rows(chunk(6.0))
    assert (row.step, row.seconds, row.values["a"], row.values["rollout/episodes"]) == (30, 2.0, 3.0, 3.0)
    assert second.pending() == {}
    assert [*second.rest()] == []


def test_a_row_has_the_metrics_of_all_its_chunks() -> None:
    """Where a chunk lacks one, it was not measured there."""
    averager = RowAverager(every=3)
    assert [*averager.rows(chunk(1.0, 2.0, name="b"))] == []
    (row,) = averager.rows(chunk(6.0))
    assert row.values["a"] == 6.0
    assert row.values["b"] == 1.5
    assert row.values["rollout/episodes"] == 3


def test_what_was_not_measured_is_absent() -> None:
    nothing = np.zeros(2, np.int32)
    metrics = {"rollout/episodes": nothing, "rollout/return_sum": nothing, "rollout/length_sum": nothing}
    measured = {"a": np.array([np.nan, 4.0]), "b": np.array([np.nan, np.nan])}
    assert rows.summarize(metrics | measured) == {"rollout/episodes": 0.0, "a": 4.0}
