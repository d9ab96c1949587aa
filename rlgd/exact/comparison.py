"""An agent's estimates of the policy gradient, compared with the exact one, for environments that can be solved."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.ascent.trees import cosine, global_norm
from rlgd.envs import DeviceEnv, Env
from rlgd.envs.device.programs import JitPerEnv
from rlgd.errors import UsageError
from rlgd.exact.lqr import LQR, LinearGaussian, LQREnv
from rlgd.exact.mdp import TabularEnv, TabularMDP
from rlgd.maths.distributions import DiagGaussian
from rlgd.models.own import SHARED
from rlgd.pytrees import AgentState
from rlgd.spaces import Spec
from rlgd.training.device_rollout import collect
from rlgd.training.loop import initialize

SAMPLES = 64  # estimates that a run draws at each evaluation
START, ROLLOUT, UPDATE = range(3)


class EstimatorError(NamedTuple):
    """How an estimator differs from the exact gradient of J; scalars.

    Attributes:
        objective: J of the policy.
        gradient_norm: the length of the exact gradient.
        cosine: of the angle between one estimate and the exact gradient, on average.
        bias: the length of the difference between the estimates' mean and the exact gradient.
        bias_error: its standard error: an unbiased estimator has a ``bias`` of about this size by chance.
        variance: of one estimate: the trace of its covariance.
    """

    objective: Array
    gradient_norm: Array
    cosine: Array
    bias: Array
    bias_error: Array
    variance: Array


def problem_of(env: Env) -> TabularMDP | LQR | None:
    """The exact problem that an environment was made from; None if there is none."""
    inner = env.func_env if isinstance(env, DeviceEnv) else None
    if isinstance(inner, TabularEnv):
        return inner.mdp
    return inner.lqr if isinstance(inner, LQREnv) else None


def applies(agent: Agent, env: Env) -> bool:
    """Whether the exact gradient is known: the time limit is the horizon; in an LQR the policy is linear Gaussian."""
    problem = problem_of(env)
    if agent.is_recurrent or agent.climbers is not None or problem is None or env.max_episode_steps != problem.horizon:
        return False
    if agent.value_network == SHARED:  # the policy's gradient has that of the value error in it
        return False
    return isinstance(problem, TabularMDP) or (
        agent.network == "mlp"
        and not agent.hidden_sizes
        and (agent.box_distribution, agent.box_std) == ("gaussian", "free")
    )


def policy_of(agent: Agent, spec: Spec, problem: TabularMDP | LQR, state: AgentState) -> Callable[[Any], Any]:
    """The function from the agent's policy parameters to the exact problem's form of the policy."""

    def table(policy: Any) -> Array:
        states = agent.features(spec, state.obs_statistics, jnp.arange(len(problem.initial)))  # type: ignore[union-attr]
        return jnp.exp(agent.distribution(spec, policy, states).log_probs)  # type: ignore[union-attr]

    def linear(policy: Any) -> LinearGaussian:
        def mean(x: Array) -> Array:
            return agent.distribution(spec, policy, agent.features(spec, state.obs_statistics, x)).mode()

        origin = jnp.zeros(len(problem.initial_mean))  # type: ignore[union-attr]
        distribution = agent.distribution(spec, policy, agent.features(spec, state.obs_statistics, origin))
        assert isinstance(distribution, DiagGaussian)
        return LinearGaussian(jax.jacfwd(mean)(origin), distribution.mean, distribution.log_std)

    return table if isinstance(problem, TabularMDP) else linear


def estimates(agent: Agent, env: DeviceEnv, state: AgentState, key: Array, samples: int) -> Any:
    """Independent estimates of the policy gradient, ``[samples, ...]`` like the policy's parameters.

    Each is ``agent.gradient`` of a separate rollout, which begins with new episodes.
    """

    def estimate(key: Array) -> Any:
        loop = initialize(agent, env, jax.random.fold_in(key, START))
        loop = dataclasses.replace(loop, agent_state=state)
        rollout, _ = collect(agent, env, loop, jax.random.fold_in(key, ROLLOUT))
        return agent.gradient(env.spec, state, rollout, jnp.zeros(()), jax.random.fold_in(key, UPDATE)).policy

    return jax.lax.map(estimate, jax.random.split(key, samples))


def compare(agent: Agent, env: DeviceEnv, state: AgentState, key: Array, samples: int = SAMPLES) -> EstimatorError:
    """Draw ``samples`` estimates at the agent's parameters and compare them with the exact gradient of J.

    Args:
        agent: its ``prepared()`` form. What it learns from differs from the problem's return if its gamma does, and if
            it scales or clips rewards: that adds to the bias.
        env: made from a ``TabularMDP`` or an ``LQR``; its time limit must be the problem's horizon.
        state: the agent's; only its parameters and normalizers are used.
        key: of the samples.
        samples: at least 2.

    Raises:
        UsageError: if the exact gradient is not known.
    """
    error: EstimatorError = _compare(agent, env, state, key, samples)
    return error


def _compared(agent: Agent, env: DeviceEnv, state: AgentState, key: Array, samples: int) -> EstimatorError:
    problem = problem_of(env)
    if problem is None or not applies(agent, env):
        raise UsageError(
            f"the exact gradient of {type(agent).__name__} in {env.env_id} is not known; make the environment from a "
            "rlgd.exact.TabularMDP, or from an LQR for an agent with hidden_sizes=() and a Gaussian policy, with "
            "max_episode_steps=problem.horizon; policies with a memory have no exact gradient."
        )
    to_policy = policy_of(agent, env.spec, problem, state)
    exact = problem.gradient(to_policy, state.params.policy)
    drawn = estimates(agent, env, state, key, samples)
    mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), drawn)
    deviation = jax.tree.map(lambda x, m: x - m[None], drawn, mean)
    variance = jnp.square(global_norm(deviation)) / (samples - 1)
    return EstimatorError(
        objective=problem.objective(to_policy(state.params.policy)),
        gradient_norm=global_norm(exact),
        cosine=jnp.mean(jax.vmap(lambda estimate: cosine(estimate, exact))(drawn)),
        bias=global_norm(jax.tree.map(jnp.subtract, mean, exact)),
        bias_error=jnp.sqrt(variance / samples),
        variance=variance,
    )


_compare = JitPerEnv(_compared, 1, static_argnums=(4,))
