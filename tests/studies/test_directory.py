"""A study's directory: what is stored, and which damage is named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlgd.errors import StorageFault, UsageError
from rlgd.studies import Arm, Question, StudyResult, resume_study
from rlgd.studies.directory import automatic, read, writing
from rlgd.studies.outcome import OutcomeFile
from tests.support.small_study import outcome

RECORD: dict[str, Any] = {
    "episode_return": 1.0, "episode_length": 1.0, "steps": 1, "training_seconds": 1.0, "reason": "", "why": "",
    "rows": [],
}  # fmt: skip


def test_damage_is_named(whole: StudyResult, tmp_path: Path) -> None:
    assert whole.study_dir is not None
    with pytest.raises(UsageError, match="holds no study"):
        resume_study(tmp_path)
    text = (whole.study_dir / "study.json").read_text()
    study_json = tmp_path / "study.json"
    for content, error, message in (
        ("{", StorageFault, "is damaged: Expecting"),
        (text.replace('"format_version": 1', '"format_version": 9'), UsageError, "format_version 9"),
        (text.replace('"question"', '"questions"', 1), StorageFault, "is damaged"),
    ):
        study_json.write_text(content)
        with pytest.raises(error, match=message):
            resume_study(tmp_path)
    study_json.write_text(text)
    for line in ("no json", '{"member": 99, "rows": []}', json.dumps({"member": 99} | RECORD)):
        (tmp_path / "members.jsonl").write_text(line + "\n")
        with pytest.raises(StorageFault, match=r"members\.jsonl"):
            resume_study(tmp_path)
    with pytest.raises(UsageError, match="already holds a study"), writing(tmp_path, whole.plan.question, False, False):
        pass


def test_the_question_is_stored(tmp_path: Path) -> None:
    arm = Arm("a", {"hidden_sizes": [8]}, {"gamma": [0.9, 0.99]})
    question = Question((arm,), name="mine", report=("train/entropy",))
    with writing(tmp_path / "new", question, True, resumed=False):
        pass
    stored, content = read(tmp_path / "new")
    assert stored == question
    assert content["exact"] is True


def test_a_folder_that_exists_gets_a_suffix(tmp_path: Path) -> None:
    first = automatic(tmp_path, "momentum")
    assert first.parent == tmp_path / "studies" / "momentum"
    first.mkdir(parents=True, exist_ok=True)
    assert automatic(tmp_path, "momentum") != first


def test_outcomes_are_stored_with_numbers_that_are_not_finite(tmp_path: Path) -> None:
    stored = {3: outcome(np.nan, 8, ((4, 1.0), (8, 2.0))), 0: outcome(1.0)}
    OutcomeFile(tmp_path).add(stored)
    again = OutcomeFile(tmp_path).read(4)
    assert list(again) == [0, 3]
    for n in stored:
        np.testing.assert_equal(dataclasses.asdict(again[n]), dataclasses.asdict(stored[n]))


def test_a_line_that_a_kill_cut_is_removed(tmp_path: Path) -> None:
    file = OutcomeFile(tmp_path)
    file.add({0: outcome(1.0)})
    file.add({1: outcome(2.0)})
    file.path.write_bytes(file.path.read_bytes()[:-10])
    assert list(OutcomeFile(tmp_path).read(2)) == [0]
    assert file.path.read_bytes().count(b"\n") == 1
