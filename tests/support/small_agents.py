"""Small agents for tests."""

from typing import Any

from rlgd.agents import PPO

N, T, WIDTH = 3, 7, 4


def agent_of(kind: str, **options: Any) -> PPO:
    """PPO with a recurrent layer, N environments and T steps."""
    defaults: dict[str, Any] = {"num_envs": N, "rollout_length": T, "hidden_sizes": (8,), "memory_width": WIDTH}
    defaults |= {"num_epochs": 1, "num_minibatches": 1, "normalize_obs": True, "network": kind, "measure_every": 0}
    agent = PPO(**(defaults | options)).prepared()
    assert isinstance(agent, PPO)
    return agent
