"""The thread that writes checkpoints."""

import logging
import threading

import pytest

from rlgd.errors import StorageFault
from rlgd.run.checkpoints.saver import Saver


def test_jobs_are_done_in_order_beside_the_caller() -> None:
    saver, go, done = Saver(), threading.Event(), []

    def slow() -> None:
        go.wait(10)
        done.append("slow")

    saver.submit(slow)
    assert saver.busy
    assert done == []
    go.set()
    saver.submit(lambda: done.append("fast"))
    saver.wait()
    assert not saver.busy
    assert done == ["slow", "fast"]
    saver.close()
    saver.wait()  # which may be repeated


def test_only_the_first_fault_in_a_row_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    saver = Saver()

    def fails(fault: Exception) -> None:
        raise fault

    saver.submit(lambda: fails(StorageFault("full 0")))
    saver.submit(lambda: fails(StorageFault("full 1")))
    saver.wait()
    assert saver.fault == "full 1"
    saver.submit(lambda: None)
    saver.wait()
    assert saver.fault is None
    saver.submit(lambda: fails(OSError("gone")))
    saver.close()
    assert saver.fault == "gone"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"{what}. Training continues, and tries again." for what in ("full 0", "gone")]


def test_a_bug_is_raised_and_not_kept() -> None:
    saver = Saver()
    saver.submit(lambda: [][0])
    with pytest.raises(IndexError):
        saver.wait()
