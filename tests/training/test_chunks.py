"""Where chunks end, with a runner that only counts."""

import dataclasses
import types
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.errors import EnvironmentFault
from rlgd.training import chunks
from rlgd.training.chunks import next_pause
from rlgd.training.loop import iterations_done

PER_ITERATION, LENGTH = 8, 5


@dataclasses.dataclass(frozen=True)
class Loop:
    """The part of a ``LoopState`` that chunks look at."""

    iteration: Any = 0
    progress: Any = dataclasses.field(default_factory=lambda: jnp.zeros(()))


class Counting:
    """A runner of iterations with 8 steps each; each call is said to compile for 100 s. ``bad`` has a fault."""

    def __init__(self, bad: int | None = None) -> None:
        self.compile_seconds, self.bad = 0.0, bad
        self.cut_short: EnvironmentFault | KeyboardInterrupt | None = None
        self.progress: list[float] = []

    def __call__(self, loop: Any, iterations: int, rows: int) -> tuple[Any, dict[str, np.ndarray]]:
        self.compile_seconds += 100.0
        self.progress.append(float(loop.progress))
        done = min(iterations, -(-rows // PER_ITERATION))
        fault = self.bad is not None and loop.iteration <= self.bad < loop.iteration + done
        if fault and self.bad is not None:
            done = self.bad - loop.iteration + 1
        faults = {name: np.zeros(done, np.int32) for name in ("fault/count", "fault/first", "fault/update")}
        faults["fault/count"][-1] = fault
        after = dataclasses.replace(loop, iteration=loop.iteration + done - fault)
        return after, faults | {"rollout/steps": np.full(done, PER_ITERATION, np.int32)}


def trained(
    total: int, pauses: Sequence[int] = (), row_every: int | None = None, steps: int = 0, runner: Any = None
) -> list[chunks.Chunk]:
    loop: Any = Loop(iteration=steps // PER_ITERATION)
    return [*chunks.chunks(runner or Counting(), loop, LENGTH, total, steps, pauses, row_every)]


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({}, [40, 80, 104]),
        ({"pauses": (24,)}, [24, 40, 48, 72, 80, 96, 104]),
        ({"pauses": (50, 70)}, [40, 56, 72, 80, 104]),
        ({"row_every": 2}, [16, 32, 40, 48, 64, 80, 96, 104]),
        ({"steps": 16}, [40, 80, 104]),
        ({"steps": 104}, []),
    ],
    ids=str,
)
def test_chunks_end_at_multiples_at_pauses_and_at_the_end(options: dict[str, Any], ends: list[int]) -> None:
    assert [chunk.steps for chunk in trained(100, **options)] == ends


def test_pauses_do_not_change_when_progress_is_set() -> None:
    with_pauses, without = Counting(), Counting()
    trained(100, runner=without)
    trained(100, pauses=(24,), runner=with_pauses)
    np.testing.assert_allclose(without.progress, [0.0, 0.4, 0.8])
    np.testing.assert_allclose(with_pauses.progress, [0.0, 0.0, 0.4, 0.4, 0.4, 0.8, 0.8])


def test_compiling_is_not_training() -> None:
    for chunk in trained(100):
        assert chunk.compile_seconds == 100.0
        assert chunk.training_seconds < 0  # the runner did not really take the 100 s


def test_nothing_follows_a_fault() -> None:
    first, last = trained(100, runner=Counting(bad=6))
    assert first.fault is None
    assert last.fault is not None
    assert (last.fault.iteration, last.steps, len(last.metrics["rollout/steps"])) == (6, 48, 1)


def test_the_next_pause() -> None:
    assert next_pause(0, 100, ()) == 100
    assert next_pause(20, 100, (20, 30)) == 30
    assert next_pause(90, 100, (20,)) == 100


def test_the_counter_of_iterations_wraps() -> None:
    loop: Any = types.SimpleNamespace(iteration=np.int32(-(2**31)))
    assert iterations_done(loop) == 2**31
