"""Where a run begins: at step 0, or at a checkpoint."""

import dataclasses
import time

import jax

from rlgd.maths.seeds import random_key
from rlgd.pytrees import LoopState
from rlgd.run.config import RunConfig
from rlgd.run.counters import Counters
from rlgd.training.loop import initialize

_initialize = jax.jit(initialize, static_argnums=(1, 3))


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run begins in this process.

    Attributes:
        began_at: ``time.monotonic()`` when this process took up the run; ``max_seconds`` counts from here.
        loop: the complete training state.
        steps: environment steps before it.
        counters: those of the checkpoint, or of a new run.
        resumed: whether there is an earlier part of the run.
    """

    began_at: float
    loop: LoopState
    steps: int
    counters: Counters
    resumed: bool


def beginning(config: RunConfig) -> Start:
    """The beginning of a new run."""
    began_at, counters = time.monotonic(), Counters(0.0, 0.0, time.time())
    key = random_key(config.settings.seed)
    loop = _initialize(config.agent.prepared(), config.env, key, config.settings.total_timesteps)
    return Start(began_at, loop, 0, counters, resumed=False)
