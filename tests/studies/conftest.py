"""A small study that several files look at."""

import pytest

from rlgd.studies import StudyResult
from tests.support.small_study import study


@pytest.fixture(name="whole", scope="session")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return study(study_dir=tmp_path_factory.mktemp("studies") / "whole", metrics=["train/entropy"])
