"""What a person sees while a run trains."""

import pytest

from rlgd.agents import A2C
from rlgd.envs import make
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.run.sinks.console import Console
from rlgd.run.sinks.rows import Row
from rlgd.system import display


@pytest.fixture(autouse=True)
def _every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "LINE_EVERY", -1.0)


def row(step: int, **values: float) -> Row:
    metrics = {name.replace("_", "/", 1): value for name, value in values.items()}
    return Row(step, 1.0, metrics | {"time/steps_per_second": 500.0})


def test_it_shows_the_metrics_that_the_agent_has(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(2000)
    console.write(row(1000, rollout_episode_return=12.34, train_kl=0.0123, train_entropy=0.5))
    console.write(row(2000, train_kl=0.02, train_other=3.0))  # no episode has ended
    console.close({})
    out, error = capsys.readouterr()
    assert out == ""
    assert error.splitlines() == [
        "  1,000 / 2,000 steps  return 12.3  0:00:00, 0:00:02 left  500 steps/s  KL 0.012",
        "  2,000 / 2,000 steps  return 12.3  0:00:00  500 steps/s  KL 0.02  entropy 0.5",
    ]


def test_an_evaluation_is_not_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Console(2000).write(Row(1000, 1.0, {"eval/episode_return": 9.0}))
    assert capsys.readouterr().err == ""


def test_it_says_why_nothing_is_seen_yet(capsys: pytest.CaptureFixture[str]) -> None:
    Console(2000).begin(RunConfig(A2C(), make("CartPole-v1"), RunSettings()), None)
    assert capsys.readouterr().err == "rlgd: compiling A2C ...\n"
