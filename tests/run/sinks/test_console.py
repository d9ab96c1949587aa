"""What a person sees while a run trains."""

import io
import sys

import pytest
from rich.console import Console as RichConsole

from rlgd.run.sinks import console as module
from rlgd.run.sinks.console import Console
from rlgd.run.sinks.rows import Row


def row(step: int, mean: float | None = None) -> Row:
    values = {"time/steps_per_second": 1234.5} | ({} if mean is None else {"rollout/episode_return": mean})
    return Row(step, 1.0, values)


def test_without_a_terminal_there_are_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    console = Console(2000)
    console.write(row(1000, 12.34))
    console.write(row(2000))
    console.close({})
    out, error = capsys.readouterr()
    assert out == ""
    assert error.splitlines() == [
        "      1,000 / 2,000 steps  return 12.3  1,234 steps/s",
        "      2,000 / 2,000 steps  return 12.3  1,234 steps/s",
    ]


def test_lines_are_rare_but_for_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(2000)
    for step in (500, 1000, 1500):
        console.write(row(step))
    assert capsys.readouterr().err == ""
    console.write(row(2048, 1.0))
    assert capsys.readouterr().err == "      2,048 / 2,000 steps  return 1.0  1,234 steps/s\n"


def test_an_evaluation_is_not_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    Console(2000).write(Row(1000, 1.0, {"eval/episode_return": 9.0}))
    assert capsys.readouterr().err == ""


def test_nobody_has_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    console = Console(2000)
    monkeypatch.setattr(sys, "stderr", Closed())
    console.write(row(1000))
    console.close({})


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = RichConsole(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(module, "RichConsole", lambda file: terminal)
    console = Console(2000)
    console.close({})  # before the first row there is nothing to stop
    console.write(row(1000, 7.25))
    console.close({})
    assert "1,000 / 2,000 steps" in screen.getvalue()
    assert "return 7.2" in screen.getvalue()
