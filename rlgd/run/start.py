"""Where a run begins: at step 0, or at a checkpoint."""

import dataclasses
import time

import jax

from rlgd.envs import DeviceEnv
from rlgd.envs.device.programs import JitPerEnv
from rlgd.maths.seeds import random_key
from rlgd.pytrees import LoopState
from rlgd.run.config import RunConfig
from rlgd.run.counters import Counters
from rlgd.run.inherited import Inherited
from rlgd.training.loop import initialize, initialize_on_host

_on_device = JitPerEnv(initialize, 1, static_argnums=(3,))
_on_host = jax.jit(initialize_on_host, static_argnums=(1, 3))


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
    """The beginning of a new run, which may take over what ``inheritance.read`` has read."""
    began_at, counters = time.monotonic(), Counters(0.0, 0.0, time.time())
    key = random_key(config.settings.seed)
    agent, env, end = config.agent.prepared(), config.env, config.settings.total_timesteps
    loop = _on_device(agent, env, key, end) if isinstance(env, DeviceEnv) else _on_host(agent, env.spec, key, end)
    if isinstance(config.init, Inherited):
        begun = config.init.taken_over_by(config.agent, config.settings, loop.agent_state)
        loop = dataclasses.replace(loop, agent_state=begun)
    return Start(began_at, loop, 0, counters, resumed=False)
