"""Training the runs of a row: in one process or several, interrupted and resumed."""

import json
import signal

import numpy as np
import pytest

from rlgd.errors import Interrupted
from rlgd.reproduction.runs import SCORE
from rlgd.run import layout
from tests.support.tiny_suite import runs_of, scores, train


@pytest.mark.slow
def test_an_interrupted_row_is_resumed_to_the_same_scores() -> None:
    whole, broken = runs_of(root="whole"), runs_of(root="broken")
    assert train(whole) == [None, None]
    for times in (1, 3, 5):  # before the run starts, between chunks, and while it is scored
        polls = iter([None] * times)
        with pytest.raises(Interrupted, match="the same command resumes it") as caught:
            train(broken, poll_signal=lambda polls=polls: next(polls, int(signal.SIGINT)))  # type: ignore[misc]
        assert caught.value.exit_code == 130
    first = broken.seed_runs()[0]
    assert first.started
    assert first.score is None
    assert train(broken) == [None, None]
    assert scores(broken) == scores(whole)
    assert None not in scores(whole)


def test_two_processes_give_the_same_scores() -> None:
    one, two = runs_of(root="one"), runs_of(root="two")
    assert train(one) == train(two, processes=2) == [None, None]
    assert scores(one) == scores(two)


@pytest.mark.slow
def test_processes_save_what_they_train_when_a_signal_comes() -> None:
    runs = runs_of()
    started = runs.directory / "seed0" / layout.CONFIG
    with pytest.raises(Interrupted) as caught:
        train(runs, processes=2, poll_signal=lambda: int(signal.SIGTERM) if started.exists() else None)
    assert caught.value.exit_code == 143
    assert train(runs)[-1:] in ([None], [])
    assert None not in scores(runs)


def test_each_seed_is_scored_in_other_episodes() -> None:
    runs = runs_of()
    train(runs)
    files = [json.loads((run.directory / SCORE).read_text()) for run in runs.seed_runs()]
    assert [score["episodes"] for score in files] == [100, 100]
    assert abs(np.diff([score["seed"] for score in files])) >= 1000
