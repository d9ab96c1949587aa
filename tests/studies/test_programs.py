"""Programs: how often a group compiles, and how large its slices may be."""

from typing import Any

import pytest

from rlgd.studies import Arm, Question
from rlgd.studies.plan import make_plan
from rlgd.studies.programs import ProgramCache, Programs
from tests.support.small_study import study


def test_a_group_compiles_once_and_slices_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Programs] = []
    original = Programs.__init__

    def spy(self: Programs, *args: Any) -> None:
        made.append(self)
        original(self, *args)

    monkeypatch.setattr(Programs, "__init__", spy)
    vary = {"learning_rate": [0.01, 0.02, 0.03], "num_envs": [2, 4]}
    result = study(vary=vary, slice_size=2, workers=2, total_timesteps=64)
    assert len(result.outcomes) == 12
    assert len(made) == len(result.plan.groups) == 2
    assert all(programs.traces == {"begin": 1, "advance": 1, "evaluate": 1} for programs in made)


@pytest.mark.slow
def test_a_slice_that_does_not_fit_is_made_smaller() -> None:
    config = make_plan(Question((Arm(vary={"gamma": [0.9]}),), agent="a2c", total_timesteps=64)).members[0]
    need = Programs(config, 8, False).memory()
    cache = ProgramCache(config, 8, False, need * 0.7)
    assert cache.programs().size == 4
    assert cache.programs() is cache.programs()
    assert cache.programs().memory() < need * 0.7
