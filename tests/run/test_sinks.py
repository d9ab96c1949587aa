"""What sinks are told, what they ask for, and what becomes of those that fail."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlgd
from rlgd.errors import Diverged
from rlgd.evaluation import EvalResult, Policy
from rlgd.run import RunConfig
from rlgd.run.sinks import Sink, audience
from rlgd.run.sinks.rows import Row
from rlgd.run.trainer import Run
from tests.support.marks import quick
from tests.support.small_runs import AGENT, TOTAL, At, parameters, train

EVENTS = ("begin", "write", "evaluation", "checkpoint", "close")


class Everything(Sink):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def begin(self, config: RunConfig, run_dir: Path | None) -> None:
        self.told.append(("begin", config, run_dir))

    def write(self, row: Row) -> None:
        self.told.append(("write", row))

    def evaluation(self, result: EvalResult, policy: Policy) -> None:
        self.told.append(("evaluation", result, policy))

    def checkpoint(self, step: int, path: Path) -> None:
        assert (path / "manifest.json").exists()
        self.told.append(("checkpoint", step, path))

    def close(self, summary: dict[str, Any]) -> None:
        self.told.append(("close", summary))

    def of(self, event: str) -> list[list[Any]]:
        return [values for name, *values in self.told if name == event]


def summary_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_sink_is_told_what_the_run_writes(tmp_path: Path) -> None:
    sink = Everything()
    result = train(tmp_path, eval_every=512, sinks=[sink])
    assert (sink.told[0][0], sink.told[-1][0]) == ("begin", "close")
    ((config, run_dir),) = sink.of("begin")
    assert (config.agent, config.env.env_id, run_dir) == (AGENT, "CartPole-v1", tmp_path)
    rows = [{"step": row.step, "seconds": row.seconds} | row.values for (row,) in sink.of("write")]
    assert rows == lines(tmp_path)
    evaluations = sink.of("evaluation")
    assert [of.mean for of, _ in evaluations] == [r["eval/episode_return"] for r in rows if "eval/episode_return" in r]
    obs = np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(evaluations[-1][1](obs), result.policy(obs))
    # Checkpoints are written beside training: one that a newer one overtakes is never written.
    steps = [step for step, _ in sink.of("checkpoint")]
    assert steps == sorted({*steps} & {0, 256, 512, 768, 1024})
    assert steps[-1] == 1024
    assert sink.of("close") == [[summary_of(tmp_path)]]


def test_without_a_directory_there_are_no_checkpoints() -> None:
    sink = Everything()
    rlgd.train(AGENT, "CartPole-v1", total_timesteps=128, sinks=[sink])
    assert [name for name, *_ in sink.told if name != "write"] == ["begin", "close"]
    assert sink.told[0][2] is None


@pytest.mark.parametrize("event", EVENTS)
def test_every_method_may_be_alone(event: str, tmp_path: Path) -> None:
    calls = []

    class One:
        pass

    setattr(One, event, lambda self, *values: calls.append(values))
    train(tmp_path, sinks=[One()])
    assert calls


def test_a_close_without_the_summary_is_called_too() -> None:
    class Old:
        closed = False

        def close(self) -> None:
            self.closed = True

    sink = Old()
    audience.Audience([sink]).tell("close", {})
    assert sink.closed


@pytest.mark.parametrize("event", EVENTS)
def test_a_sink_that_raises_is_reported_once_and_costs_nothing(
    event: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, written: tuple[Path, rlgd.TrainResult]
) -> None:
    class Broken:
        pass

    def fail(self: Any, *values: Any) -> None:
        raise ValueError("no such project\nand more")

    setattr(Broken, event, fail)
    other = Everything()
    result = train(tmp_path, sinks=[Broken(), other])
    (warning,) = warnings(caplog)
    assert "without the sink tests.run.test_sinks:" in warning
    assert f"Broken, whose {event} failed: ValueError: no such project (" in warning
    assert "test_sinks.py:" in warning
    assert {name for name, *_ in other.told} == {*EVENTS}
    assert summary_of(tmp_path)["reason"] == "total_timesteps"
    for one, two in zip(parameters(written[1]), parameters(result), strict=True):
        np.testing.assert_array_equal(one, two)


def stopping(event: str, number: int = 1) -> Any:
    """A sink that asks for a stop at the n-th call of a method."""
    calls = 0

    class Asks:
        pass

    def ask(self: Any, *values: Any) -> rlgd.Stop | None:
        nonlocal calls
        calls += 1  # checkpoints are written beside training, so only the first one is known to come in time
        return rlgd.Stop("that is enough") if calls >= number else None

    setattr(Asks, event, ask)
    return Asks()


@pytest.mark.parametrize(
    ("event", "number", "steps"),
    quick([("write", 3, 256)], [("begin", 1, 0), ("write", 3, 256), ("evaluation", 1, 512), ("checkpoint", 1, None)]),
)
def test_a_stop_ends_the_run_as_a_criterion_does_and_it_resumes_exactly(
    event: str, number: int, steps: int | None, tmp_path: Path, written: tuple[Path, rlgd.TrainResult]
) -> None:
    result = train(tmp_path, eval_every=512, sinks=[stopping(event, number)])
    assert (result.reason, result.why) == ("sink", "that is enough")
    assert result.steps < TOTAL
    assert steps in (None, result.steps)
    assert (summary_of(tmp_path)["reason"], summary_of(tmp_path)["why"]) == ("sink", "that is enough")
    assert result.evaluation is not None
    again = rlgd.resume(tmp_path)
    assert (again.reason, again.steps) == ("total_timesteps", TOTAL)
    for one, two in zip(parameters(written[1]), parameters(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert rlgd.resume(tmp_path).reason == "already complete"


def test_the_first_stop_counts_and_one_at_the_end_changes_nothing(tmp_path: Path) -> None:
    asked = audience.Audience([stopping("write"), stopping("write", 2)])
    for _ in range(2):
        asked.tell("write", Row(1, 0.0, {}))
    assert asked.stop == rlgd.Stop("that is enough")
    result = train(tmp_path, sinks=[At(TOTAL, lambda: rlgd.Stop("late")), stopping("close")])
    assert result.reason == "total_timesteps"


def test_a_sink_hears_how_a_run_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(self: Run, rows: Any, judge: bool = True) -> None:
        raise Diverged("too far")

    sink = Everything()
    monkeypatch.setattr(Run, "_take", diverge)
    with pytest.raises(Diverged):
        train(tmp_path, sinks=[sink])
    ((summary,),) = sink.of("close")
    assert summary == summary_of(tmp_path)
    assert summary["reason"] == "Diverged: too far"
