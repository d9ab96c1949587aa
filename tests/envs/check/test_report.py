"""The report of a check, and the log that it is made from."""

import json

import pytest

from rlgd.envs.check import Finding, Report, render
from rlgd.envs.check.report import LONGEST_QUOTE, GroupEnded, Log, quote


def test_a_report_is_text_and_json() -> None:
    report = Report(
        "Env-v0",
        ("making", "answers"),
        ("determinism",),
        (
            Finding("fault", "reward", "step 3, reward", "is nan", "fix it"),
            Finding("note", "starts", "reset", "all", "-"),
        ),
    )
    assert render(report).splitlines() == [
        "Env-v0",
        "  checked: making, answers",
        "  not checked to the end: determinism",
        "  fault   step 3, reward: is nan",
        "          -> fix it",
        "  note    reset: all",
        "          -> -",
        "1 fault, 0 warnings",
    ]
    written = json.loads(json.dumps(report.as_dict()))
    assert written["sound"] is False
    assert written["findings"][0]["where"] == "step 3, reward"
    warned = Report("Env-v0", (), (), (Finding("warning", "dtype", "reset", "is float64", "cast"),))
    assert render(warned).splitlines()[-1] == "sound, 1 warning"


def test_a_log_keeps_the_first_finding_of_a_check_in_each_part() -> None:
    log = Log()
    with log.group("answers", prefix=False):
        log.add("note", "dtype", "reset", "first", "-", "observation", (1,))
        log.add("fault", "dtype", "step 0", "second", "-", "observation", (2,))
        log.add("fault", "dtype", "step 0", "third", "-", "reward")
    assert [(finding.where, finding.what) for finding in log.findings] == [
        ("step 0, reward", "third"),
        ("reset, observation[1]", "first"),
    ]
    with log.group("vector", repeats=True):
        log.add("fault", "dtype", "reset", "again", "-")
        log.add("warning", "range", "reset", "new", "-")
    assert [finding.where for finding in log.findings if finding.check == "range"] == ["vector, reset"]
    assert len(log.findings) == 3
    assert (log.checked, log.unfinished, log.faulty) == (["answers", "vector"], [], True)


def test_a_fatal_fault_ends_its_group_only() -> None:
    def fail(number: int) -> None:
        raise ValueError(f"number {number}")

    log = Log()
    with log.group("making"):
        log.call("make", "Env-v0", "make it possible", fail, 3)
        raise AssertionError("the group goes no further")
    assert (log.checked, log.unfinished) == ([], ["making"])
    (finding,) = log.findings
    assert finding.where == "making, Env-v0"
    assert finding.what.startswith(f"raised ValueError: number 3 ({__file__}:")
    with pytest.raises(GroupEnded):
        raise log.fatal("step", "step 0", "refused", "-")


def test_quotes_have_one_line_and_a_bounded_length() -> None:
    assert quote("a\n  b") == "a b"
    assert quote([1]) == "[1]"
    assert len(quote("x" * 1000)) == LONGEST_QUOTE + 3
