"""Whether what is asked for fits into memory, as far as that is sure before anything is compiled."""

import itertools
import math

import jax
import numpy as np
import psutil

from rlgd import spaces
from rlgd.agents.common import Agent
from rlgd.data import LeafSpec
from rlgd.envs import Env
from rlgd.errors import UsageError
from rlgd.rollout import rollout_length

try:
    import resource
except ImportError:  # not every system has limits for a process
    resource = None  # type: ignore[assignment]

ROW_BYTES = 4 + 1 + 1  # reward, terminated, truncated


def available() -> float:
    """Bytes that are free: of the GPU, or of the machine and of what this process may take of it."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return float(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
    free = float(psutil.virtual_memory().available)
    if resource is None or (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return free
    return min(free, float(limit))


def least(agent: Agent, env: Env) -> int:
    """Bytes that an iteration surely takes: the rows of its rollout, and the dense layers with their gradient."""
    spec = env.spec

    def size(part: LeafSpec) -> int:
        shape, dtype = spaces.obs_shape_dtype(part)
        return math.prod(shape) * dtype.itemsize

    row = sum(map(size, [*spaces.leaf_specs(spec.obs), spec.action])) + ROW_BYTES
    widths = (spaces.num_features(spec.obs), *agent.hidden_sizes, 1)
    weights = 2 * sum(before * after for before, after in itertools.pairwise(widths))  # policy and value function
    return agent.num_envs * rollout_length(agent, spec) * row + 2 * weights * np.dtype(np.float32).itemsize


def check(agent: Agent, env: Env) -> None:
    """Refuse what can never fit; XLA would look for room for it without end.

    Raises:
        UsageError: what it takes, what there is, and what takes less.
    """
    needed, free = least(agent, env), available()
    if needed > free:
        raise UsageError(
            f"one iteration takes at least {needed / 2**30:,.1f} GiB, but {free / 2**30:,.1f} GiB are free; fewer "
            "num_envs, shorter rollouts (of whole episodes: a smaller max_episode_steps) or smaller hidden_sizes "
            "take less."
        )
