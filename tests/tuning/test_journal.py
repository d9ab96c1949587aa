"""The journal of a search: opened, resumed, refused."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from rlgd.agents import A2C
from rlgd.errors import StorageFault, UsageError
from rlgd.hyperparameters import to_dict
from rlgd.tuning.journal import (
    JOURNAL,
    STATE,
    STUDY_NAME,
    WHY,
    counted_trials,
    ended_trials,
    open_journal,
    trial_record,
)
from rlgd.tuning.journal_file import JournalFile
from rlgd.tuning.space import Range

SPACE = {"x": Range(0.0, 1.0, False)}


def test_trials_are_found_again(tmp_path: Path) -> None:
    study = open_journal(tmp_path, {"seeds": 1})
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    again = open_journal(tmp_path, {"seeds": 1})
    assert [trial.params for trial in ended_trials(again)] == [trial.params for trial in ended_trials(study)]
    record = trial_record(SPACE, ended_trials(again)[1])
    assert (record["number"], record["state"], record["why"]) == (1, "complete", "")
    assert record["score"] == record["values"]["x"]


def test_only_complete_and_pruned_trials_have_a_score(tmp_path: Path) -> None:
    study, states = open_journal(tmp_path, {}), optuna.trial.TrialState
    for state, end in (("diverged", states.PRUNED), ("pruned", states.PRUNED), ("failed", states.FAIL)):
        trial = study.ask()
        trial.report(5.0, 0)
        if state != "pruned":
            trial.set_user_attr(STATE, state)
            trial.set_user_attr(WHY, "so it is")
        study.tell(trial, state=end)
    study.tell(study.ask(), state=states.FAIL)  # as if it was killed
    records = [trial_record(SPACE, trial) for trial in ended_trials(study)]
    assert [record["state"] for record in records] == ["diverged", "pruned", "failed"]
    assert [record["why"] for record in records] == ["so it is", "", "so it is"]
    assert [math.isnan(record["score"]) for record in records] == [True, False, True]
    assert [trial.number for trial in counted_trials(study)] == [0, 1]


def test_another_search_is_refused(tmp_path: Path) -> None:
    open_journal(tmp_path, {"seeds": 1, "env": "A"})
    with pytest.raises(UsageError, match=r"holds another search: seeds: 1, now 2\. Name another directory"):
        open_journal(tmp_path, {"seeds": 2, "env": "A"})


def test_a_hyper_parameter_that_is_newer_than_the_search_has_its_default(tmp_path: Path) -> None:
    now: dict[str, Any] = {"agent": "a2c", "hyperparameters": to_dict(A2C())}
    then = now | {"hyperparameters": {k: v for k, v in now["hyperparameters"].items() if k != "compute_dtype"}}
    open_journal(tmp_path, then)
    open_journal(tmp_path, now)
    with pytest.raises(UsageError, match="bfloat16"):
        open_journal(tmp_path, now | {"hyperparameters": to_dict(A2C(compute_dtype="bfloat16"))})


def test_a_journal_of_something_else_is_refused_and_not_touched(tmp_path: Path) -> None:
    backend: Any = JournalFile(tmp_path / JOURNAL)
    storage = optuna.storages.JournalStorage(backend)
    optuna.create_study(storage=storage, study_name="theirs")
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(UsageError, match="a journal of something else"):
        open_journal(tmp_path, {})
    assert (tmp_path / JOURNAL).read_bytes() == before


CREATE = f'{{"op_code":0,"worker_id":"w","study_name":"{STUDY_NAME}","directions":[2]}}'


TRIAL = '{"op_code":4,"worker_id":"w","study_id":0,"datetime_start":null}'
END = (
    '{{"op_code":6,"worker_id":"w","trial_id":0,"state":{state},"values":{values},'
    '"datetime_complete":"2026-01-01T00:00:00+00:00"}}\n'
)


@pytest.mark.parametrize(
    "content",
    [
        "no journal\nat all\n",
        "a diary, of one line",
        f"{CREATE}\nno journal\n",
        f"{CREATE}\n[]\n",
        f"{CREATE}\n" + '{"a":1}\n',
        f"{CREATE}\n" + '{"op_code":99,"worker_id":"w"}\n',
        f"{CREATE}\n" + '{"op_code":2,"worker_id":"w","study_id":0}\n',
        f"{CREATE}\n" + '{"op_code":2,"worker_id":"w","study_id":0,"user_attr":{"asked":5}}\n',
        f"{CREATE}\n" + '{"op_code":' + "[" * 100_000 + "\n",
        f"{CREATE}\n{TRIAL}\n" + END.format(state=1, values="[[1.5]]"),
        f"{CREATE}\n{TRIAL}\n" + END.format(state=1, values='["x"]'),
        f"{CREATE}\n{TRIAL}\n" + END.format(state=1, values="[1.0,2.0]"),
        f"{CREATE}\n{TRIAL}\n" + END.format(state=1, values="null"),
        f"{CREATE}\n{TRIAL}\n" + END.format(state='"1"', values="[1.0]"),
        f"{CREATE}\n{TRIAL}\n" + '{"op_code":8,"worker_id":"w","trial_id":0,"user_attr":{"state":[]}}\n',
        f"{CREATE}\n{TRIAL}\n" + '{"op_code":9,"worker_id":"w","trial_id":0,"system_attr":{"constraints":"x"}}\n',
    ],
    ids=range(16),
)
def test_damage_is_named_and_not_touched(content: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(StorageFault, match="is damaged"):
        open_journal(tmp_path, {})
    assert (tmp_path / JOURNAL).read_text() == content


def test_a_whole_trial_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(f"{CREATE}\n{TRIAL}\n" + END.format(state=1, values="[1.5]"))
    (trial,) = open_journal(tmp_path, {}).get_trials()
    assert trial.value == 1.5
