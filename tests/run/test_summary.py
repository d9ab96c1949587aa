"""``summary.json``: how a run ended, and what is read where it is absent or damaged."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlgd.errors import StorageFault
from rlgd.evaluation.evaluator import EvalResult
from rlgd.run.cadence import Cadence
from rlgd.run.layout import SUMMARY
from rlgd.run.settings import CheckpointInterval
from rlgd.run.sinks.rows import RowAverager
from rlgd.run.status import RunStatus
from rlgd.run.stopping import CriteriaState, Fired, Stopping
from rlgd.run.summary import describe, is_finished, read_summary, summarize, write_summary

CADENCE = Cadence(100, 10, 1, 1, 20, None, CheckpointInterval(60.0, None))
RESULT = EvalResult(np.array([1.0, 3.0]), np.array([10, 30]), deterministic=True)
DESCRIBED = {
    "env": "CartPole-v1",
    "episodes": 2,
    "policy": "greedy",
    "mean_return": 2.0,
    "std_return": 1.0,
    "mean_length": 20.0,
}
AVERAGER = RowAverager(every=1, step=80, seconds=4.0, compile_seconds=0.5, iteration=8)


def evaluations(result: EvalResult | None) -> Any:
    return types.SimpleNamespace(result=result, env=types.SimpleNamespace(env_id="CartPole-v1"))


def test_an_evaluation_in_a_few_numbers() -> None:
    assert describe(RESULT, "CartPole-v1") == DESCRIBED
    assert describe(EvalResult(RESULT.returns, RESULT.lengths, False), "x")["policy"] == "sampled"


def test_a_run_that_was_never_evaluated() -> None:
    summary = summarize("total_timesteps", RunStatus(Stopping(), CADENCE), AVERAGER, evaluations(None))
    assert summary == {
        "reason": "total_timesteps",
        "why": "",
        "steps": 80,
        "iterations": 8,
        "training_seconds": 4.0,
        "compile_seconds": 0.5,
        "steps_per_second": 20.0,
    }


def test_the_best_evaluation_and_the_criterion_are_in_it() -> None:
    criteria = CriteriaState(best_return=9.0, best_step=40)
    status = RunStatus(Stopping(), CADENCE, criteria=criteria, stop=Fired("patience", "waited"))
    summary = summarize("patience", status, AVERAGER, evaluations(RESULT))
    assert summary["why"] == "waited"
    assert summary["best"] == {"step": 40, "mean_return": 9.0}
    assert summary["evaluation"] == DESCRIBED


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_summary(tmp_path, {"reason": "patience", "steps": 80})
    assert read_summary(tmp_path) == {"reason": "patience", "steps": 80}


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "\xff", "[" * 100_000], ids=lambda text: str(text)[:5])
def test_what_is_no_summary_is_empty(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / SUMMARY).write_bytes(text.encode("latin-1"))
    assert read_summary(tmp_path) == {}


@pytest.mark.parametrize(
    ("reason", "steps", "finished"),
    [
        ("total_timesteps", 80, True),
        ("patience", 80, True),
        ("max_seconds", 80, True),
        ("interrupted", 80, False),
        ("total_timesteps", 70, False),
    ],
)
def test_a_run_is_finished_if_it_ended_by_itself_at_its_step(
    tmp_path: Path, reason: str, steps: int, finished: bool
) -> None:
    assert not is_finished(tmp_path, 80)
    write_summary(tmp_path, {"reason": reason, "steps": steps})
    assert is_finished(tmp_path, 80) == finished


def test_a_summary_that_cannot_be_written_is_a_storage_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match=r"summary\.json cannot be written: "):
        write_summary(tmp_path / "missing", {})
