"""How many members of a group train side by side: a number that belongs to the group alone.

XLA rounds a program for 8 members otherwise than one for 7. So the number must not depend on how many members there
are, on free memory, on cores or on workers: then a member has the same bits in every study and in every process.
"""

from typing import Any

import jax
from jax import Array

from rlgd.envs import DeviceEnv
from rlgd.run.config import RunConfig
from rlgd.training.device_rollout import collect
from rlgd.training.loop import initialize

ROWS = {"cpu": 64, "gpu": 1024}  # environments that a slice steps together, by platform
MOST = {"cpu": 4, "gpu": 128}  # members: a slice that is not full computes its empty places too
MOST_BYTES = 2**31  # of a slice, by the estimate of ``bytes_of``


def width_of(config: RunConfig, member_bytes: int | None = None) -> int:
    """The number of members in a slice, for a group with this member, of which ``bytes_of`` may be known."""
    platform = jax.default_backend() if jax.default_backend() in ROWS else "gpu"
    if member_bytes is None:
        member_bytes = bytes_of(config)
    by_rows = ROWS[platform] // config.agent.num_envs
    return max(1, min(by_rows, MOST[platform], MOST_BYTES // member_bytes))


def bytes_of(config: RunConfig) -> int:
    """A rough estimate of a member's memory while it trains: state and rollout, and as much again for the update."""
    agent, env = config.agent.prepared(), config.env
    assert isinstance(env, DeviceEnv)

    def state_and_rollout(key: Array) -> Any:
        return collect(agent, env, initialize(agent, env, key), key)

    leaves = jax.tree.leaves(jax.eval_shape(state_and_rollout, jax.random.key(0)))
    return 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
