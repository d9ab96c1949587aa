"""The journal of a search: opened, resumed, refused."""

import math
from pathlib import Path

import optuna
import pytest

from rlgd.errors import StorageFault, UsageError
from rlgd.tuning.journal import JOURNAL, WHY, ended_trials, open_journal, trial_record
from rlgd.tuning.space import Range

SPACE = {"x": Range(0.0, 1.0, False)}


def test_trials_are_found_again(tmp_path: Path) -> None:
    study = open_journal(tmp_path / "new", {"seeds": 1}, 0)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    again = open_journal(tmp_path / "new", {"seeds": 1}, 0)
    assert [trial.params for trial in ended_trials(again)] == [trial.params for trial in ended_trials(study)]
    record = trial_record(SPACE, ended_trials(again)[1])
    assert (record["number"], record["state"]) == (1, "complete")
    assert record["score"] == record["values"]["x"]


def test_a_misfit_has_no_score(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr(WHY, "do not fit together")
        raise optuna.TrialPruned

    study = open_journal(tmp_path, {}, 0)
    study.optimize(objective, n_trials=1)
    record = trial_record(SPACE, ended_trials(study)[0])
    assert record["state"] == "misfit"
    assert math.isnan(record["score"])


def test_another_search_is_refused(tmp_path: Path) -> None:
    open_journal(tmp_path, {"seeds": 1, "env": "A"}, 0)
    with pytest.raises(UsageError, match=r"holds another search: seeds: 1, now 2\. Name another directory"):
        open_journal(tmp_path, {"seeds": 2, "env": "A"}, 0)


def test_damage_and_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        open_journal(tmp_path / "file" / "search", {}, 0)
    (tmp_path / JOURNAL).write_text("no journal\nat all\n")
    with pytest.raises(StorageFault, match="is damaged"):
        open_journal(tmp_path, {}, 0)
