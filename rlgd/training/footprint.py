"""The least RAM that training needs, known before anything is compiled."""

import math

import numpy as np

from rlgd import spaces
from rlgd.agents.base.agent import Agent
from rlgd.envs import Env
from rlgd.errors import UsageError
from rlgd.spaces import LeafSpec
from rlgd.system import ram
from rlgd.training.rollout import rollout_length

ROW_BYTES = 4 + 1 + 1  # reward, terminated, truncated


def least(agent: Agent, env: Env) -> int:
    """The bytes that an iteration needs at least: for the rollout, recurrent memory, weights and their gradients."""
    spec = env.spec

    def size(part: LeafSpec) -> int:
        shape, dtype = spaces.obs_shape_dtype(part)
        return math.prod(shape) * dtype.itemsize

    row = sum(map(size, [*spaces.leaf_specs(spec.obs), *spaces.leaf_specs(spec.action)])) + ROW_BYTES
    model = agent.networks(spec)
    remembered = sum(network.memory_size or 0 for network in (model.policy, model.value))
    numbers = 2 * sum(agent.num_weights(spec)) + agent.num_envs * remembered
    if agent.box_std == "gsde":
        numbers += agent.num_envs * agent.hidden_sizes[-1]
    return agent.num_envs * rollout_length(agent, spec) * row + numbers * np.dtype(np.float32).itemsize


def check(agent: Agent, env: Env) -> None:
    """Refuse what can never fit; XLA would search for room without end.

    Raises:
        UsageError: how much is needed, how much is free, and how to need less.
    """
    needed, free = least(agent, env), ram.free_bytes()
    if needed > free:
        raise UsageError(
            f"one iteration takes at least {needed / 2**30:,.1f} GiB, but {free / 2**30:,.1f} GiB are free; fewer "
            "num_envs, shorter rollouts (of whole episodes: a smaller max_episode_steps), smaller hidden_sizes or "
            "memory_width take less."
        )
