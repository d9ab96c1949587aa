"""The agents: one file per algorithm, what they share in ``base``, and tuned settings in ``presets``."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.agents import presets as presets
    from rlgd.agents.a2c import A2C as A2C
    from rlgd.agents.base.actor_critic import ActorCriticAgent as ActorCriticAgent
    from rlgd.agents.base.actor_critic import RolloutAgent as RolloutAgent
    from rlgd.agents.base.agent import Agent as Agent
    from rlgd.agents.base.checks import check as check
    from rlgd.agents.base.contract import AgentContract as AgentContract
    from rlgd.agents.base.one_step import OneStepAgent as OneStepAgent
    from rlgd.agents.npg import NPG as NPG
    from rlgd.agents.ppo import PPO as PPO
    from rlgd.agents.registry import ALIASES as ALIASES
    from rlgd.agents.registry import REGISTRY as REGISTRY
    from rlgd.agents.registry import agent_class as agent_class
    from rlgd.agents.registry import make_agent as make_agent
    from rlgd.agents.registry import named as named
    from rlgd.agents.registry import preset as preset
    from rlgd.agents.registry import registered_name as registered_name
    from rlgd.agents.reinforce import REINFORCE as REINFORCE
    from rlgd.agents.trpo import TRPO as TRPO

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.agents.a2c": ("A2C",),
        "rlgd.agents.base.actor_critic": ("ActorCriticAgent", "RolloutAgent"),
        "rlgd.agents.base.agent": ("Agent",),
        "rlgd.agents.base.checks": ("check",),
        "rlgd.agents.base.contract": ("AgentContract",),
        "rlgd.agents.base.one_step": ("OneStepAgent",),
        "rlgd.agents.npg": ("NPG",),
        "rlgd.agents.ppo": ("PPO",),
        "rlgd.agents.registry": (
            "ALIASES",
            "REGISTRY",
            "agent_class",
            "make_agent",
            "named",
            "preset",
            "registered_name",
        ),
        "rlgd.agents.reinforce": ("REINFORCE",),
        "rlgd.agents.trpo": ("TRPO",),
    },
    submodules=("presets",),
)
