"""What every agent shares: its hyper-parameters, its networks, acting, and one step of ascent.

An agent is a subclass of ``Agent`` with an ``update`` and the hyper-parameters of its own; nothing is overridden.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rlgd import batches, config, networks, normalize, returns, spaces
from rlgd.ascent import Ascent, apply_step, cosine, first_moment, global_norm
from rlgd.config import hyperparameters, nested, static, traced
from rlgd.data import Actor, AgentState, Metrics, Params, Rollout, Spec, View
from rlgd.distributions import Distribution
from rlgd.networks import Network

POLICY_OUTPUT_SCALE = 0.01  # the first policy is close to uniform (Andrychowicz et al. 2021, arXiv 2006.05990)


@hyperparameters
class Agent:
    """Hyper-parameters and methods that all agents share."""

    whole_episodes: ClassVar[bool] = False

    num_envs: int = static(8, "environments that are stepped side by side", "[1, inf)")
    gamma: float = traced(0.99, "discount of future rewards", "[0, 1]")
    ascent: Ascent = nested(Ascent())
    value_learning_rate: float | None = traced(None, "step size of the value function; None: the policy's", "[0, inf)")
    ent_coef: float = traced(0.0, "weight of the entropy in the objective", "[0, inf)")
    hidden_sizes: tuple[int, ...] = static((64, 64), "width of each hidden layer; none: a linear policy", "[1, inf)")
    activation: str = static("tanh", "between the layers", choices=tuple(networks.ACTIVATIONS))
    initialization: str = static("orthogonal", "of the weights", choices=tuple(networks.INITIALIZATIONS))
    squash: bool = static(False, "squash Box actions into their bounds by tanh, instead of clipping them")
    normalize_obs: bool = static(False, "shift and scale observations to mean 0 and variance 1")
    scale_reward: bool = static(False, "divide rewards by the standard deviation of the discounted return")

    def validate(self) -> None:
        """Check ranges and combinations on concrete values.

        Raises:
            UsageError: naming the field, what was given and what is allowed.
        """
        config.validate(self)
        self.ascent.validate()

    def prepared(self) -> "Agent":
        """A copy ready for tracing: optimizer defaults filled in, traced values as arrays of one type."""
        return config.as_arrays(dataclasses.replace(self, ascent=self.ascent.resolved()))

    def policy_network(self, spec: Spec) -> Network:
        """Encoded observations to the action head's outputs, with free log standard deviations beside the network."""
        head = spaces.action_head(spec.action, self.squash)
        mlp = self._mlp(spec, head.num_outputs, POLICY_OUTPUT_SCALE)
        free = {"log_std": jnp.zeros(head.num_log_stds)} if head.num_log_stds else {}
        return Network(
            init=lambda key: {"network": mlp.init(key)} | free,
            apply=lambda params, x: mlp.apply(params["network"], x),
        )

    def value_network(self, spec: Spec) -> Network:
        """Encoded observations to one number."""
        return self._mlp(spec, 1, 1.0)

    def _mlp(self, spec: Spec, outputs: int, scale: float) -> Network:
        inputs = spaces.num_features(spec.obs)
        return networks.mlp(inputs, outputs, self.hidden_sizes, self.activation, self.initialization, scale)

    def features(self, spec: Spec, obs_statistics: Any, obs: Array) -> Array:
        """``obs [..., *shape]`` encoded and normalized, ``[..., num_features]``."""
        return normalize.normalize(obs_statistics, spaces.encode(spec.obs, obs))

    def distribution(self, spec: Spec, policy: Any, features: Array) -> Distribution:
        """The action distribution at ``features [..., num_features]``."""
        outputs = self.policy_network(spec).apply(policy, features)
        return spaces.action_head(spec.action, self.squash).distribution(outputs, policy.get("log_std"))

    def value(self, spec: Spec, params: Any, features: Array) -> Array:
        """The value function at ``features [..., num_features]``, ``[...]``."""
        return self.value_network(spec).apply(params, features)[..., 0]

    def init(self, spec: Spec, key: Array) -> AgentState:
        """Fresh parameters, optimizer state and normalizers: arrays only."""
        policy_key, value_key = jax.random.split(key)
        params = Params(self.policy_network(spec).init(policy_key), self.value_network(spec).init(value_key))
        return AgentState(
            params=params,
            moments=Params(
                self.ascent.transformation().init(params.policy), self.ascent.transformation().init(params.value)
            ),
            obs_statistics=normalize.empty((spaces.num_features(spec.obs),)) if self.normalize_obs else None,
            reward_statistics=normalize.empty_reward_scale(self.num_envs) if self.scale_reward else None,
        )

    def memory(self, spec: Spec, num_envs: int) -> tuple[()]:
        """What the policy remembers between steps: nothing."""
        return ()

    def act(
        self, spec: Spec, actor: Actor, memory: Any, view: View, key: Array, greedy: bool = False
    ) -> tuple[Array, Any]:
        """Choose an action in each environment, sampled or, if ``greedy``, the most probable one.

        Returns:
            ``(action [N, ...], memory)``; the action is as sampled: unclipped, before tanh, counted from 0.
        """
        policy = self.distribution(spec, actor.policy, self.features(spec, actor.obs_statistics, view.obs))
        return (policy.mode() if greedy else policy.sample(key)), memory

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: learn from a rollout. Each agent's own.

        Args:
            spec: the environment.
            state: as ``init`` or ``update`` returned it.
            rollout: collected with ``state.actor``.
            progress: share of the run done, in [0, 1]; schedules are functions of it.
            key: for shuffling.
        """
        raise NotImplementedError

    def ascend(
        self, params: Params, moments: Params, gradient: Params, progress: Array
    ) -> tuple[Params, Params, Metrics]:
        """One step uphill for policy and value function, each with its own moments, clipping and step size."""
        rate = self.ascent.learning_rate if self.value_learning_rate is None else self.value_learning_rate
        value_ascent = dataclasses.replace(self.ascent, learning_rate=rate)
        step, policy_moments = self.ascent.transformation().update(
            gradient.policy, moments.policy, params.policy, progress
        )
        value_step, value_moments = value_ascent.transformation().update(
            gradient.value, moments.value, params.value, progress
        )
        metrics = {
            "ascent/gradient_norm": global_norm(gradient.policy),
            "ascent/value_gradient_norm": global_norm(gradient.value),
            "ascent/update_norm": global_norm(step),
        }
        if (moment := first_moment(moments.policy)) is not None:
            metrics["ascent/momentum_alignment"] = cosine(moment, gradient.policy)
        stepped = Params(apply_step(params.policy, step), apply_step(params.value, value_step))
        return stepped, Params(policy_moments, value_moments), metrics

    def ascent_metrics(self, progress: Array) -> Metrics:
        """Step size and momentum as they are applied."""
        ascent = self.ascent.resolved()
        momentum = 0.0 if ascent.momentum is None else ascent.momentum
        return {"ascent/learning_rate": ascent.step_size(progress), "ascent/momentum": jnp.asarray(momentum, float)}

    def observe(self, spec: Spec, state: AgentState, rollout: Rollout) -> AgentState:
        """Take a rollout into the normalizers, at the end of an update: the one that acted is the one that learned."""
        obs_statistics, reward_statistics = state.obs_statistics, state.reward_statistics
        if obs_statistics is not None:
            mask = None if rollout.mask is None else rollout.mask.reshape(-1)
            rows = spaces.encode(spec.obs, rollout.obs).reshape(-1, spaces.num_features(spec.obs))
            obs_statistics = normalize.merge(obs_statistics, normalize.of_batch(rows, mask))
        if reward_statistics is not None:
            reward_statistics = normalize.observe_reward(
                reward_statistics, rollout.reward, rollout.done, self.gamma, rollout.mask
            )
        return dataclasses.replace(state, obs_statistics=obs_statistics, reward_statistics=reward_statistics)


@hyperparameters
class ActorCriticAgent(Agent):
    """The hyper-parameters of agents that learn from rollouts of fixed length with a value function."""

    rollout_length: int = static(128, "steps of each environment in one iteration", "[1, inf)")
    gae_lambda: float = traced(0.95, "how far advantages look ahead: 0 one step, 1 the whole return", "[0, 1]")
    vf_coef: float = traced(0.5, "weight of the value error in the objective", "[0, inf)")
    normalize_advantage: bool = static(True, "shift and scale advantages to mean 0 and variance 1")


class Experience(NamedTuple):
    """The rows of a rollout, ``[T * N, ...]``, with all that was computed before the first step of ascent."""

    features: Array
    action: Array
    log_prob: Array
    value: Array
    advantage: Array
    value_target: Array
    mask: Array | None


def flatten(x: Array) -> Array:
    """``[T, N, ...]`` to rows, ``[T * N, ...]``."""
    return x.reshape(-1, *x.shape[2:])


def true_next(following: Array, final: Array, truncated: Array) -> Array:
    """The value of each row's true next observation, ``[T, N]``.

    Args:
        following: ``[T, N]``, values of ``obs[t + 1]``: behind an episode's end, of the next episode's first one.
        final: ``[K, N]``, values of ``Rollout.final_obs``.
        truncated: ``[T, N]`` bool.
    """
    if final.shape[0] == 0:
        return following
    index = jnp.clip(jnp.cumsum(truncated, axis=0) - 1, 0, final.shape[0] - 1)
    return jnp.where(truncated, jnp.take_along_axis(final, index, axis=0), following)


def experience(agent: ActorCriticAgent, spec: Spec, state: AgentState, rollout: Rollout) -> Experience:
    """Values, log-probabilities and advantages with the parameters and normalizers that acted."""

    def features(obs: Array) -> Array:
        return agent.features(spec, state.obs_statistics, flatten(obs))

    def evaluate(rows: tuple[Array, Array]) -> tuple[Array, Array]:
        log_prob = agent.distribution(spec, state.params.policy, rows[0]).log_prob(rows[1])
        return log_prob, agent.value(spec, state.params.value, rows[0])

    rows, action = features(rollout.obs), flatten(rollout.action)
    log_prob, value = batches.map_rows(evaluate, (rows, action))
    behind = jnp.concatenate([rollout.last_obs[None], rollout.final_obs])
    behind_value = agent.value(spec, state.params.value, features(behind)).reshape(-1, rollout.reward.shape[1])
    by_time = value.reshape(rollout.reward.shape)
    following = jnp.concatenate([by_time[1:], behind_value[:1]])
    next_value = true_next(following, behind_value[1:], rollout.truncated)
    reward = normalize.scale_reward(state.reward_statistics, rollout.reward)
    advantage, value_target = returns.gae(
        reward, by_time, next_value, rollout.terminated, rollout.truncated, agent.gamma, agent.gae_lambda
    )
    mask = None if rollout.mask is None else flatten(rollout.mask)
    return Experience(rows, action, log_prob, value, flatten(advantage), flatten(value_target), mask)
