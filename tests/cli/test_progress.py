"""How far a study, a search or a reproduction is, as a person sees it."""

import time

import pytest

from rlgd.cli.options import OutputOptions
from rlgd.cli.progress import ShownProgress
from rlgd.system import display
from rlgd.system.progress import Best, Progress


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still; every state is a line."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(display, "LINE_EVERY", -1.0)
    return now


def test_the_time_left_follows_from_what_has_finished_in_this_process(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with ShownProgress(OutputOptions()) as show:
        show(Progress("members", 4, 10))
        clock[0] += 30.0
        show(Progress("members", 4, 10, Best("gamma=0.9", 7.0), True, 20.0))
        clock[0] += 30.0
        show(Progress("members", 6, 10, Best("gamma=0.9", 7.25), False, 25.0))
        clock[0] += 10.0
        show(Progress("fresh seeds", 0, 3))
        clock[0] += 10.0
        show(Progress("fresh seeds", 3, 3))
    assert capsys.readouterr().err.splitlines() == [
        "   4 / 10 members  0:00:00  training",
        "   4 / 10 members  best gamma=0.9: 7.0  0:00:30  compiling  20 s of compiling",
        "   6 / 10 members  best gamma=0.9: 7.2  0:01:00, 0:02:00 left  training",
        "  0 / 3 fresh seeds  0:01:10  training",
        "  3 / 3 fresh seeds  0:01:20",
    ]


def test_the_share_of_the_work_may_be_known_better(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with ShownProgress(OutputOptions()) as show:
        show(Progress("runs", 0, 3, share=0.0))
        clock[0] += 30.0
        show(Progress("runs", 0, 3, share=0.75))
    assert capsys.readouterr().err.splitlines()[-1] == "  0 / 3 runs  0:00:30, 0:00:10 left  training"


def test_nothing_to_do_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with ShownProgress(OutputOptions()) as show:
        show(Progress("runs", 0, 0))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("options", [OutputOptions(quiet=True), OutputOptions(json=True)])
def test_quiet_is_quiet(options: OutputOptions, capsys: pytest.CaptureFixture[str]) -> None:
    with ShownProgress(options) as show:
        show(Progress("runs", 3, 3))
    assert capsys.readouterr().err == ""
