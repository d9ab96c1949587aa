"""What collecting a ``Rollout`` on the device and on the host share. Both draw the same actions from a key."""

from typing import Any, cast

import jax
from jax import Array

from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError
from rlgd.pytrees import Actor, View
from rlgd.spaces import Spec

EPISODE_BLOCK = 32  # whole episodes are collected in blocks of this many steps, until all have ended
ACT, STEP, RESET = range(3)  # purposes of the random keys of a rollout


def choose_action(
    agent: Agent, spec: Spec, actor: Actor, memory: Any, view: View, key: Array
) -> tuple[Array, Array, Any]:
    """The action as sampled, as the environment receives it, and the memory."""
    action, memory = agent.act(spec, actor, memory, view, key)
    return action, agent.action_head(spec).to_env(action), memory


def step_key(key: Array, purpose: int, t: Array) -> Array:
    """The random key of step ``t`` of the rollout with ``key``, for a purpose such as ``ACT``."""
    return jax.random.fold_in(jax.random.fold_in(key, purpose), t)


def most_truncations(spec: Spec, length: int) -> int:
    """How often the time limit of an environment can truncate in ``length`` steps; 0 without a limit."""
    return 0 if spec.max_episode_steps is None else -(-length // spec.max_episode_steps)


def padded_limit(spec: Spec) -> int:
    """The number of rows that a whole episode needs, a multiple of ``EPISODE_BLOCK``.

    Raises:
        UsageError: if the environment has no time limit.
    """
    if spec.max_episode_steps is None:
        raise UsageError(
            "this agent learns from whole episodes, but the environment has no time limit; set max_episode_steps."
        )
    return -(-spec.max_episode_steps // EPISODE_BLOCK) * EPISODE_BLOCK


def rollout_length(agent: Agent, spec: Spec) -> int:
    """Steps of each environment in one iteration; the most that it can be where it takes whole episodes."""
    return padded_limit(spec) if agent.whole_episodes else cast(RolloutAgent, agent).rollout_length
