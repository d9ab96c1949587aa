"""A bar on a terminal, plain lines elsewhere."""

import io
import os
import re
import subprocess
import sys
import time

import pytest

from rlgd.system import display
from rlgd.system.display import Display, State, fitted

FACTS = ["return 123.4", "length 123", "KL 0.0123", "entropy 0.543", "objective 0.0123"]


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_lines_are_rare_but_for_the_last(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    shown = Display()
    shown.show(State("runs", 0, 3, "training"))
    clock[0] += 1.0
    shown.show(State("runs", 1, 3, "training", seconds_left=2.0))
    assert capsys.readouterr().err == ""
    clock[0] += 1.5
    shown.show(State("runs", 2, 3, "compiling", ["best 7"], 61.2))
    shown.show(State("runs", 3, 3, "", ["best 7"], 0.0))
    assert capsys.readouterr().err.splitlines() == [
        "  2 / 3 runs  best 7  0:00:02, 0:01:01 left  compiling",
        "  3 / 3 runs  best 7  0:00:02",
    ]


def test_the_time_left_is_not_shown_before_it_is_known(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    shown = Display()
    clock[0] += 5.0
    shown.show(State("runs", 0, 3, "training"))
    assert capsys.readouterr().err == "  0 / 3 runs  0:00:05  training\n"


def test_an_estimate_that_has_passed_is_not_shown(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    shown = Display()
    shown.show(State("runs", 1, 3, "training", seconds_left=2.0))
    assert "0:00:02 left" in shown._line()
    clock[0] += 2.0
    assert shown._line() == "  1 / 3 runs  0:00:02  training"


def test_nobody_has_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(display, "LINE_EVERY", -1.0)
    shown = Display()
    monkeypatch.setattr(sys, "stderr", Closed())
    shown.show(State("runs", 1, 3, "training"))
    shown.close()


def test_after_the_end_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Display()
    shown.close()
    shown.show(State("runs", 3, 3, "training"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("room", "expected"), [(30, "one  two  three"), (14, "one  two"), (7, "one"), (3, "one"), (2, "...")]
)
def test_what_is_least_important_is_left_out(room: int, expected: str) -> None:
    assert fitted(["one", "", "two", "three"], room) == expected


def test_what_cannot_be_left_out_is_cut() -> None:
    assert fitted(["a long label"], 9) == "a long..."


SCRIPT = f"""
from rlgd.system.display import Display, State
shown = Display()
shown.show(State("steps", 250_000, 500_000, "61,234 steps/s", {FACTS!r}, 4.0))
shown.close()
"""


def on_terminal(columns: int) -> list[str]:
    """What the script leaves on a real terminal, line by line."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env=env)
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 65536):
            text += piece
    except OSError:  # Linux says so at the end of a terminal
        pass
    assert process.wait() == 0
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode()).replace("\r", "\n").splitlines()
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("columns", [30, 60, 80, 132])
def test_the_bar_fits_the_terminal(columns: int) -> None:
    lines = on_terminal(columns)
    assert all(len(line) <= columns for line in lines)
    *_, bar, facts = lines
    assert bar.startswith("  250,000 / 500,000 steps")
    assert facts.startswith("  return 123.4")
    if columns >= 80:
        assert re.search(r" ━+.* 0:00:00, 0:00:04 left  61,234 steps/s$", bar)
        assert facts == "  " + "  ".join(FACTS)
