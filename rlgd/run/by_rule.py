"""Settings by rule, for an environment that nobody has tuned: from its spaces, its time limit and a short play.

No rule is for one environment, and none reads a return. ``benchmarks/auto.py`` compares them with the presets, and with
the defaults of others.
"""

import math
from collections.abc import Container
from typing import Any, NamedTuple

from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.agent import Agent
from rlgd.agents.ppo import PPO
from rlgd.agents.registry import make_agent
from rlgd.agents.trpo import TRPO
from rlgd.envs import Env, make
from rlgd.envs.probe import Probe, probe
from rlgd.models.features import image_shape
from rlgd.spaces import BoxSpec, leaf_specs

LEAST_GAMMA, MOST_GAMMA, FAR_GAMMA = 0.95, 0.99, 0.999


class Rule(NamedTuple):
    """What a rule sets, by flat names, and why."""

    settings: dict[str, Any]
    why: str

    def __str__(self) -> str:
        values = (
            f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.settings.items()
        )
        return f"{' '.join(values)} ({self.why})"


def rules(agent: Agent, env: Env, given: Container[str] = ()) -> list[Rule]:
    """The rules that apply to an agent, with its defaults, in an environment.

    Args:
        agent: with all that is chosen already.
        env: is played for some steps.
        given: names of settings that are chosen already, which no rule changes.

    Raises:
        EnvironmentFault: if the environment breaks.
    """
    seen = probe(env)
    found = [_observations(agent, env), _rewards(agent), _horizon(env, seen), _step(agent)]
    memory = None if "network" in given else _memory(agent, seen)
    found.append(memory)
    if memory is None and not any(name in given for name in ("network", "rollout_length", "num_minibatches")):
        found.append(_rollout(agent, env))
    left = [Rule({k: v for k, v in rule.settings.items() if k not in given}, rule.why) for rule in found if rule]
    return [rule for rule in left if rule.settings]


def settings(found: list[Rule]) -> dict[str, Any]:
    """What rules set, by flat names."""
    return {name: value for rule in found for name, value in rule.settings.items()}


def _observations(agent: Agent, env: Env) -> Rule | None:
    """The units of what is observed are arbitrary. What is counted, and images, have a scale already.

    An agent of whole episodes has few updates, and its first episodes are unlike the last, so the mean that the first
    ones had stays in the way.
    """
    if agent.whole_episodes:
        return None
    numbers = [part for part in leaf_specs(env.spec.obs) if isinstance(part, BoxSpec) and image_shape(part) is None]
    return Rule({"normalize_obs": True}, "numbers are observed") if numbers else None


def _rewards(agent: Agent) -> Rule | None:
    """So are the units of rewards; the value function then sees returns of variance 1."""
    if agent.clip_reward:  # which takes the size of rewards away, too
        return None
    return Rule({"scale_reward": True}, "in whatever unit rewards are")


def _horizon(env: Env, seen: Probe) -> Rule | None:
    """A discount that looks as far ahead as episodes last, up to a limit, since far ahead is also much noise.

    The limit is farther where how an episode ends decides its return.
    """
    limit = env.spec.max_episode_steps
    if limit is None:
        return None
    gamma = min(max(1 - 1 / limit, LEAST_GAMMA), FAR_GAMMA if seen.end_weighs else MOST_GAMMA)
    end = ", and the end decides" * seen.end_weighs
    return Rule({"gamma": gamma}, f"at most {limit:,} steps an episode{end}")


def _step(agent: Agent) -> Rule | None:
    """TRPO makes few steps, so each is longer than its default; the others' steps fade out with their schedule."""
    return Rule({"max_kl": 0.02}, "few steps, each of KL 0.02") if isinstance(agent, TRPO) else None


def _memory(agent: Agent, seen: Probe) -> Rule | None:
    """A network that remembers, where the past shows what the observation hides; minibatches are whole sequences."""
    if not isinstance(agent, RolloutAgent) or not seen.hides_state:
        return None
    minibatches = {"num_minibatches": agent.num_envs} if hasattr(agent, "num_minibatches") else {}
    return Rule({"network": "gru", **minibatches}, "the past shows what observations hide")


def _rollout(agent: Agent, env: Env) -> Rule | None:
    """Each number of an action adds its noise to the gradient, so several take longer rollouts.

    With one the defaults stay: longer rollouts were not better there.
    """
    numbers = sum(math.prod(part.shape) for part in leaf_specs(env.spec.action) if isinstance(part, BoxSpec))
    if not isinstance(agent, PPO) or numbers < 2:
        return None
    twice = {"rollout_length": 2 * agent.rollout_length, "num_minibatches": 2 * agent.num_minibatches}
    return Rule(twice, f"{numbers} numbers in an action")


def automatic(name: str, env: Any, **overrides: Any) -> Agent:
    """An agent with settings by rule for an environment: ``automatic("ppo", "CartPole-v1")``.

    Args:
        name: of the agent.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returned; it is played for some steps.
        overrides: hyper-parameters by their flat names, which no rule changes.

    Raises:
        UsageError: for an unknown agent, environment or hyper-parameter, or a value out of its range.
        EnvironmentFault: if the environment breaks.
    """
    agent = make_agent(name, **overrides)
    return make_agent(name, **settings(rules(agent, make(env), overrides)), **overrides)
