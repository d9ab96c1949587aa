"""Programs: how often a group compiles."""

from typing import Any

import pytest

from rlgd.studies import execution, speed
from rlgd.studies.programs import MOST_KEPT, Programs, Shelf
from rlgd.studies.slices import Slice
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


def test_a_shelf_keeps_what_was_used_last() -> None:
    shelf, made = Shelf(), list[int]()

    def get(key: int) -> Any:
        def make() -> Any:
            made.append(key)
            return key

        return shelf.get(key, make)

    for key in [*range(MOST_KEPT), 0, MOST_KEPT, 0, 1]:  # the first one is used again before the eighth goes
        assert get(key) == key
    assert made == [*range(MOST_KEPT), MOST_KEPT, 1]


@pytest.mark.slow
def test_few_groups_are_open_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has room for the programs of a few dozen groups, so groups end before many others begin."""
    monkeypatch.setattr(execution, "TAKING_TURNS", 2)
    monkeypatch.setattr(speed, "MOST_KEPT", 2)
    begun, original = list[int](), Slice.train

    def train(self: Slice, *args: Any) -> Any:
        begun.append(self.group)
        return original(self, *args)

    monkeypatch.setattr(Slice, "train", train)
    result = study(vary={"num_envs": [1, 2, 4]}, slice_size=1, workers=1, total_timesteps=32)
    assert begun == [0, 1, 0, 1, 2, 2]
    assert [speed.program for speed in result.speeds] == [group.label for group in result.plan.groups]
