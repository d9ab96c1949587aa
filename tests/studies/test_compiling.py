"""How long something was compiling, in wall time."""

import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlgd.studies.compiling import Compiling


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_what_is_compiled_at_once_counts_once(clock: list[float]) -> None:
    compiling = Compiling()
    with compiling.one():
        clock[0] += 2.0
        with compiling.one():
            clock[0] += 3.0
        assert compiling.seconds == 5.0
    clock[0] += 10.0
    assert compiling.seconds == 5.0
    with compiling.one():
        clock[0] += 1.0
    assert compiling.seconds == 6.0


def test_workers_on_other_machines_may_have_other_clocks(clock: list[float]) -> None:
    compiling = Compiling()
    clock[0] += 10.0
    compiling.intervals += [(900.0, 1004.0), (1003.0, 1005.0), (1008.0, 2000.0)]
    assert compiling.seconds == 7.0


PLACES = st.integers(0, 20)


@given(st.lists(st.tuples(PLACES, PLACES)))
def test_the_seconds_are_those_of_the_union(pairs: list[tuple[int, int]]) -> None:
    compiling = Compiling()
    began = compiling._began = time.time() - 20.0
    compiling.intervals += [(began + min(pair), began + max(pair)) for pair in pairs]
    inside = {second for pair in pairs for second in range(min(pair), max(pair))}
    assert compiling.seconds == pytest.approx(len(inside), abs=1e-3)


def test_it_tells_when_compiling_begins_and_ends() -> None:
    heard: list[bool] = []
    compiling = Compiling(lambda: heard.append(compiling.is_running))
    with compiling.one():
        pass
    with pytest.raises(ValueError, match="the compiler's"), compiling.one():
        raise ValueError("the compiler's")
    assert heard == [True, False] * 2
    assert not compiling.is_running


def test_threads_compile_at_once() -> None:
    compiling, all_here = Compiling(), threading.Barrier(4)

    def work(*_: Any) -> None:
        with compiling.one():
            all_here.wait(60)

    began = time.time()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiling.intervals) == 4
    assert 0 < compiling.seconds <= time.time() - began
