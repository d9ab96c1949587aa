"""The counters of a checkpoint, back from its manifest."""

import dataclasses
import json
import math
from typing import Any

import pytest

from rlgd.errors import StorageFault
from rlgd.run.checkpoints.manifest import Manifest
from rlgd.run.counters import Counters, read_counters
from rlgd.run.stopping import CriteriaState, Fired

COUNTERS = Counters(
    training_seconds=1.5,
    compile_seconds=0.5,
    start=1.7e9,
    rows=3,
    pending={"a": [1.0, 2.0], "b": [0.1, math.nan]},
    recent={"rollout/episodes": [2.0], "rollout/return_sum": [30.0]},
    evaluated_at=64,
    criteria=CriteriaState(best_return=5.0, best_step=64, waited=1, last_return=4.0).to_dict(),
    stop=Fired("patience", "waited"),
    end={"total_timesteps": 128},
)


def written(**changes: Any) -> Manifest:
    """The manifest with these counters, through JSON."""
    return Manifest({}, json.loads(json.dumps(dataclasses.asdict(COUNTERS) | changes)), {})


def test_counters_come_back_from_json() -> None:
    read = read_counters(written(), 64)
    assert isinstance(read.stop, Fired)
    assert math.isnan(read.pending["b"].pop())
    assert read == dataclasses.replace(COUNTERS, pending={"a": [1.0, 2.0], "b": [0.1]})


def test_what_is_absent_takes_the_value_of_a_new_run() -> None:
    read = read_counters(Manifest({}, {"training_seconds": 1.0, "compile_seconds": 2.0, "start": 3.0}, {}), 0)
    assert read == Counters(1.0, 2.0, 3.0)
    assert CriteriaState.from_dict(read.criteria) == CriteriaState()


def test_criteria_have_their_earlier_name_in_old_checkpoints() -> None:
    manifest = written()
    manifest.counters["watch"] = manifest.counters.pop("criteria")
    assert read_counters(manifest, 64).criteria == COUNTERS.criteria


@pytest.mark.parametrize(
    "changes",
    [
        {"training_seconds": math.inf},
        {"start": "today"},
        {"rows": -1},
        {"rows": 1.5},
        {"evaluated_at": 2**63},
        {"pending": {"a": [1.0], "b": []}},
        {"recent": {"rollout/episodes": [1.0], "rollout/return_sum": []}},
        {"recent": {"rollout/episodes": [0.0], "rollout/return_sum": [1.0]}},
        {"recent": [1.0]},
        {"pending": {"a": ["x"]}},
        {"criteria": {}},
        {"criteria": CriteriaState().to_dict() | {"last_return": "high"}},
        {"stop": ["patience"]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_damage_is_one_message(changes: dict[str, Any]) -> None:
    with pytest.raises(StorageFault, match=r"^the checkpoint of step 1,024 has no valid counters: .+\.$"):
        read_counters(written(**changes), 1024)
