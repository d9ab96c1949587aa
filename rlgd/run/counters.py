"""The counters that a checkpoint keeps beside arrays."""

import dataclasses
import math
from typing import Any

from rlgd.errors import StorageFault
from rlgd.run.checkpoints.manifest import Manifest
from rlgd.run.stopping import Watch


@dataclasses.dataclass(frozen=True)
class Counters:
    """What a checkpoint keeps beside arrays; plain values.

    Attributes:
        training_seconds, compile_seconds, start: of the run so far, and the time of its beginning.
        rows: of the curves, behind which the state is.
        pending: metrics of the iterations that are in no row yet, by name.
        evaluated_at: the step of the newest evaluation.
        watch: what the criteria to stop have seen.
        stop: the criterion that ended the run here and what it saw, or None.
        end: what was to end it.
    """

    training_seconds: float
    compile_seconds: float
    start: float
    rows: int = 0
    pending: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    evaluated_at: int = 0
    watch: dict[str, Any] = dataclasses.field(default_factory=Watch().to_dict)
    stop: tuple[str, str] | None = None
    end: dict[str, Any] | None = None


def read_counters(manifest: Manifest, steps: int) -> Counters:
    """The counters of a checkpoint.

    Raises:
        StorageFault: if they are none.
    """
    try:
        counters = Counters(**manifest.counters)
        pending = {str(name): [float(x) for x in values] for name, values in counters.pending.items()}
        watch = Watch.from_dict(counters.watch)
        times = [float(getattr(counters, name)) for name in ("training_seconds", "compile_seconds", "start")]
        whole = (counters.rows, counters.evaluated_at, watch.best_step, watch.waited)
        if not all(map(math.isfinite, times)) or not all(isinstance(n, int) and 0 <= n < 2**63 for n in whole):
            raise ValueError("numbers out of range")
        if not all(isinstance(x, float | int | None) for x in (watch.best_return, watch.last_return)):
            raise TypeError("returns are no numbers")
        if len({len(values) for values in pending.values()}) > 1:
            raise ValueError("metrics of different length")
        stop = None if counters.stop is None else (str(counters.stop[0]), str(counters.stop[1]))
        return dataclasses.replace(counters, pending=pending, stop=stop)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise StorageFault(f"the checkpoint of step {steps:,} holds no counters of a run: {error}.") from error
