"""Programs: how often a group compiles."""

from typing import Any

import pytest

from rlgd.studies.programs import Programs
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
