"""The counters that a checkpoint keeps beside its arrays."""

import dataclasses
import math
from typing import Any

from rlgd.errors import StorageFault
from rlgd.run.checkpoints.manifest import Manifest
from rlgd.run.stopping import CriteriaState, Fired

EARLIER_NAMES = {"watch": "criteria"}  # of fields, in checkpoints of earlier versions


@dataclasses.dataclass(frozen=True)
class Counters:
    """What a checkpoint keeps beside its arrays, as plain values.

    Attributes:
        training_seconds, compile_seconds: wall time of the run so far.
        start: the time at which the run began, seconds since 1970.
        rows: how many rows of the curves belong to this state.
        pending: metrics of the iterations that are in no row yet, by name.
        recent: ``RecentEpisodes.kept`` of the run so far.
        evaluated_at: the step of the newest evaluation.
        criteria: ``CriteriaState`` as a dict.
        stop: the criterion that ended the run here and what it saw, or None.
        end: ``total_timesteps`` and the criteria of the run that wrote this.
    """

    training_seconds: float
    compile_seconds: float
    start: float
    rows: int = 0
    pending: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    recent: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    evaluated_at: int = 0
    criteria: dict[str, Any] = dataclasses.field(default_factory=CriteriaState().to_dict)
    stop: Fired | None = None
    end: dict[str, Any] | None = None


def read_counters(manifest: Manifest, steps: int) -> Counters:
    """The counters of a checkpoint.

    Raises:
        StorageFault: if they are not those of a run.
    """
    try:
        counters = Counters(**{EARLIER_NAMES.get(name, name): value for name, value in manifest.counters.items()})
        pending, recent = (
            {str(name): [float(x) for x in values] for name, values in metrics.items()}
            for metrics in (counters.pending, counters.recent)
        )
        criteria = CriteriaState.from_dict(counters.criteria)
        times = [float(getattr(counters, name)) for name in ("training_seconds", "compile_seconds", "start")]
        whole = (counters.rows, counters.evaluated_at, criteria.best_step, criteria.waited)
        if not all(map(math.isfinite, times)) or not all(isinstance(n, int) and 0 <= n < 2**63 for n in whole):
            raise ValueError("numbers out of range")
        if not all(isinstance(x, float | int | None) for x in (criteria.best_return, criteria.last_return)):
            raise TypeError("returns are not numbers")
        if any(len({len(values) for values in metrics.values()}) > 1 for metrics in (pending, recent)):
            raise ValueError("metrics of different length")
        if not all(x > 0 for x in recent.get("rollout/episodes", ())):
            raise ValueError("iterations without an episode")
        stop = None if counters.stop is None else Fired(str(counters.stop[0]), str(counters.stop[1]))
        return dataclasses.replace(counters, pending=pending, recent=recent, stop=stop)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise StorageFault(f"the checkpoint of step {steps:,} has no valid counters: {error}.") from error
