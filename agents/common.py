"""What every agent shares: its hyper-parameters, its networks, acting, and one step of ascent.

An agent is a subclass of ``Agent`` with an ``update``, the ``gradient`` that it begins with, and hyper-parameters of
its own; nothing else is overridden.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import batches, config, diagnostics, networks, normalize, objectives, returns, schedules, spaces
from rlgd.ascent import Ascent, apply_step, global_norm
from rlgd.config import hyperparameters, nested, static, traced
from rlgd.data import (
    FINITE,
    GRADIENT,
    OBJECTIVE,
    Actor,
    AgentState,
    Features,
    Metrics,
    Obs,
    Params,
    Rollout,
    Spec,
    T,
    View,
)
from rlgd.distributions import Distribution
from rlgd.errors import UsageError
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
    ent_coef_schedule: str = static("constant", "factor of ent_coef over the run, as for schedule")
    hidden_sizes: tuple[int, ...] = static((64, 64), "width of each hidden layer; none: a linear policy", "[1, inf)")
    activation: str = static("tanh", "between the layers", choices=tuple(networks.ACTIVATIONS))
    initialization: str = static("orthogonal", "of the weights", choices=tuple(networks.INITIALIZATIONS))
    dropout: float | None = traced(
        None, "share of each hidden layer's units that is dropped while learning, never while acting", "[0, 1)"
    )
    squash: bool = static(False, "squash Box actions into their bounds by tanh, instead of clipping them")
    normalize_obs: bool = static(False, "shift and scale observations to mean 0 and variance 1")
    scale_reward: bool = static(False, "divide rewards by the standard deviation of the discounted return")
    measure_every: int = static(
        128, "log the ascent's angles, noise and step lengths in one iteration of so many; 0: never", "[0, inf)"
    )

    def validate(self) -> None:
        """Check ranges and combinations on concrete values.

        Raises:
            UsageError: naming the field, what was given and what is allowed.
        """
        config.validate(self)
        self.ascent.validate()
        schedules.parse(self.ent_coef_schedule)
        if self.ent_coef_schedule != "constant" and np.all(np.asarray(self.ent_coef) == 0):
            raise UsageError(f"ent_coef_schedule {self.ent_coef_schedule!r} has no effect: ent_coef is 0.")
        if self.dropout is not None and not self.hidden_sizes:
            raise UsageError("dropout is set, but hidden_sizes is empty: there is no hidden layer to drop units of.")

    def prepared(self) -> "Agent":
        """A copy ready for tracing: optimizer defaults filled in, traced values as arrays of one type."""
        return config.as_arrays(dataclasses.replace(self, ascent=self.ascent.resolved()))

    def policy_network(self, spec: Spec) -> Network:
        """Features to the action head's outputs, with free log standard deviations beside the network."""
        head = spaces.action_head(spec.action, self.squash)
        network = self._network(spec, head.num_outputs, POLICY_OUTPUT_SCALE)
        free = {"log_std": jnp.zeros(head.num_log_stds)} if head.num_log_stds else {}
        return Network(
            init=lambda key: {"network": network.init(key)} | free,
            apply=lambda params, features, key=None: network.apply(params["network"], features, key),
        )

    def value_network(self, spec: Spec) -> Network:
        """Features to one number."""
        return self._network(spec, 1, 1.0)

    def _network(self, spec: Spec, outputs: int, scale: float) -> Network:
        return networks.network(
            spaces.num_features(spec.obs),
            outputs,
            self.hidden_sizes,
            self.activation,
            self.initialization,
            scale,
            self.dropout,
            spaces.image_shapes(spec.obs),
        )

    def features(self, spec: Spec, obs_statistics: Any, obs: Obs, action_mask: Array | None = None) -> Features:
        """What the networks read of ``obs [..., *shape]``: numbers encoded and normalized, images as they are."""
        vector = normalize.normalize(obs_statistics, spaces.encode(spec.obs, obs))
        return Features(vector, spaces.images(spec.obs, obs), action_mask)

    def distribution(self, spec: Spec, policy: Any, features: Features, key: Array | None = None) -> Distribution:
        """The action distribution at features ``[..., ]``, among the actions allowed; with a key, under dropout."""
        outputs = self.policy_network(spec).apply(policy, features, key)
        head = spaces.action_head(spec.action, self.squash)
        return head.distribution(outputs, policy.get("log_std"), features.action_mask)

    def value(self, spec: Spec, params: Any, features: Features, key: Array | None = None) -> Array:
        """The value function at features ``[..., ]``, ``[...]``; with a key, under dropout."""
        return self.value_network(spec).apply(params, features, key)[..., 0]

    def dropout_keys(self, key: Array, number: Array | int) -> tuple[Array | None, Array | None]:
        """Keys for policy and value function in the block ``number`` of a batch; None without dropout."""
        if self.dropout is None:
            return None, None
        policy_key, value_key = jax.random.split(jax.random.fold_in(key, number))
        return policy_key, value_key

    def entropy_weight(self, progress: Array) -> Array:
        """``ent_coef`` as it is applied, at a share ``progress`` of the run."""
        return schedules.applied(self.ent_coef, self.ent_coef_schedule, progress)

    def init(self, spec: Spec, key: Array) -> AgentState:
        """Fresh parameters, optimizer state and normalizers: arrays only."""
        policy_key, value_key = jax.random.split(key)
        params = Params(self.policy_network(spec).init(policy_key), self.value_network(spec).init(value_key))
        outer = self.ascent.outer()
        return AgentState(
            params=params,
            moments=_moments(self.ascent, self.value_ascent, params),
            outer_moments=None if outer is None else _moments(outer, outer, params),
            obs_statistics=normalize.empty((spaces.num_features(spec.obs),)) if self.normalize_obs else None,
            reward_statistics=normalize.empty_reward_scale(self.num_envs) if self.scale_reward else None,
            measured=diagnostics.begin(params.policy) if self.measure_every else None,
        )

    @property
    def value_ascent(self) -> Ascent:
        """How the value function climbs: as the policy does, but for its step size."""
        rate = self.ascent.learning_rate if self.value_learning_rate is None else self.value_learning_rate
        return dataclasses.replace(self.ascent, learning_rate=rate)

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
        features = self.features(spec, actor.obs_statistics, view.obs, view.action_mask)
        policy = self.distribution(spec, actor.policy, features)
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

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate of the gradient that the first step on a rollout follows, on the whole of it. Each agent's own.

        The arguments are those of ``update``. The gradient is that of the objective with its entropy bonus, before
        penalties, clipping and the optimizer.
        """
        raise NotImplementedError

    def ascend(
        self, params: Params, moments: Params, gradient: Params, progress: Array, new_rollout: bool | Array = True
    ) -> tuple[Params, Params, Metrics]:
        """One step uphill for policy and value function, each with its own moments, clipping and step size.

        ``new_rollout``: this is the first step since a rollout was collected.
        """
        value_ascent = self.value_ascent
        policy, policy_moments = _step(
            self.ascent, gradient.policy, moments.policy, params.policy, progress, new_rollout
        )
        value, value_moments = _step(value_ascent, gradient.value, moments.value, params.value, progress, new_rollout)
        norm = global_norm(self.ascent.penalized(gradient.policy, params.policy))
        max_norm = jnp.inf if self.ascent.max_grad_norm is None else self.ascent.max_grad_norm
        metrics = {
            "ascent/gradient_norm": norm,
            "ascent/value_gradient_norm": global_norm(value_ascent.penalized(gradient.value, params.value)),
            "ascent/clipped": (norm > max_norm).astype(norm.dtype),
        }
        return Params(policy, value), Params(policy_moments, value_moments), metrics

    def measure(self, state: AgentState, progress: Array, gradients: Callable[[], Any]) -> tuple[Metrics, Any]:
        """The diagnostics of the first step that follows, and what they keep; see ``diagnostics.measure``.

        ``gradients`` computes the policy's gradients on ``diagnostics.halves`` of the batch, stacked.
        """
        if not self.measure_every:
            return {}, None
        return diagnostics.measure(
            self.ascent,
            state.moments.policy,
            state.params.policy,
            progress,
            gradients,
            state.measured,
            self.measure_every,
        )

    def schedule_metrics(self, progress: Array) -> Metrics:
        """Step size, momentum and entropy weight as they are applied."""
        return {
            "ascent/learning_rate": self.ascent.step_size(progress),
            "ascent/momentum": self.ascent.momentum_at(progress),
            "ascent/effective_step": self.ascent.effective_step(progress),
            "train/ent_coef": self.entropy_weight(progress),
        }

    def conclude(
        self, spec: Spec, state: AgentState, rollout: Rollout, params: Params, moments: Params, measured: Any
    ) -> AgentState:
        """The end of an update: the outer step from ``state`` towards ``params``, if there is one, and the normalizers.

        They take the rollout in only now: the one that acted is the one that learned.
        """
        obs_statistics, reward_statistics = state.obs_statistics, state.reward_statistics
        if obs_statistics is not None:
            mask = None if rollout.mask is None else rollout.mask.reshape(-1)
            rows = spaces.encode(spec.obs, rollout.obs).reshape(-1, spaces.num_features(spec.obs))
            obs_statistics = normalize.merge(obs_statistics, normalize.of_batch(rows, mask))
        if reward_statistics is not None:
            reward_statistics = normalize.observe_reward(
                reward_statistics, rollout.reward, rollout.done, self.gamma, rollout.mask
            )
        params, outer_moments = self._outer_step(state, params)
        return AgentState(params, moments, outer_moments, obs_statistics, reward_statistics, measured)

    def _outer_step(self, state: AgentState, params: Params) -> tuple[Params, Params | None]:
        outer = self.ascent.outer()
        if outer is None or state.outer_moments is None:
            return params, None

        def step(start: Any, end: Any, moments: Any) -> tuple[Any, Any]:
            return _step(outer, jax.tree.map(jnp.subtract, end, start), moments, start, jnp.zeros(()), False)

        policy, policy_moments = step(state.params.policy, params.policy, state.outer_moments.policy)
        value, value_moments = step(state.params.value, params.value, state.outer_moments.value)
        return Params(policy, value), Params(policy_moments, value_moments)


def _moments(ascent: Ascent, value_ascent: Ascent, params: Params) -> Params:
    return Params(ascent.transformation().init(params.policy), value_ascent.transformation().init(params.value))


def _step(
    ascent: Ascent, gradient: Any, moments: Any, params: Any, progress: Array, new_rollout: bool | Array
) -> tuple[Any, Any]:
    step, moments = ascent.transformation().update(gradient, moments, params, progress, new_rollout=new_rollout)
    return apply_step(params, step), moments


def nonfinite(metrics: Metrics) -> Array:
    """What of an update is not finite, int32: ``FINITE``, ``OBJECTIVE`` or ``GRADIENT``; of both, what came first."""
    objective = metrics["train/objective"] + metrics["train/entropy"] + metrics.get("train/value_error", 0.0)
    lengths = metrics["ascent/gradient_norm"] + metrics["ascent/value_gradient_norm"]
    lengths += metrics.get("ascent/cg_residual", 0.0)
    return jnp.where(jnp.isfinite(objective), jnp.where(jnp.isfinite(lengths), FINITE, GRADIENT), OBJECTIVE)


@hyperparameters
class RolloutAgent(Agent):
    """The hyper-parameters of agents that learn from rollouts of fixed length with a value function."""

    rollout_length: int = static(128, "steps of each environment in one iteration", "[1, inf)")
    gae_lambda: float = traced(0.95, "how far advantages look ahead: 0 one step, 1 the whole return", "[0, 1]")
    normalize_advantage: bool = static(True, "shift and scale each rollout's advantages to mean 0 and variance 1")


@hyperparameters
class ActorCriticAgent(RolloutAgent):
    """Those of agents whose value function learns together with the policy, in the same steps."""

    vf_coef: float = traced(0.5, "weight of the value error in the objective", "[0, inf)")


def check_minibatches(agent: RolloutAgent, num_minibatches: int) -> None:
    """Check that the rows of a rollout can be cut into so many equal parts.

    Raises:
        UsageError: naming the nearest numbers that can be.
    """
    rows = agent.num_envs * agent.rollout_length
    if rows % num_minibatches:
        divisors = [n for n in range(1, rows + 1) if rows % n == 0]
        nearest = sorted(sorted(divisors, key=lambda n: abs(n - num_minibatches))[:3])
        raise UsageError(
            f"num_minibatches is {num_minibatches}, which does not divide num_envs * rollout_length = "
            f"{agent.num_envs} * {agent.rollout_length} = {rows}; nearest that do: "
            f"{', '.join(str(n) for n in nearest)}."
        )


class Experience(NamedTuple):
    """The rows of a rollout, ``[T * N, ...]``, with all that was computed before the first step of ascent."""

    features: Features
    action: Array
    log_prob: Array
    value: Array
    advantage: Array
    value_target: Array
    mask: Array | None


def flatten(tree: T) -> T:
    """``[T, N, ...]`` to rows, ``[T * N, ...]``, in every array."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


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


def experience(agent: RolloutAgent, spec: Spec, state: AgentState, rollout: Rollout) -> Experience:
    """Values, log-probabilities and advantages with the parameters and normalizers that acted."""

    def features(obs: Obs, action_mask: Array | None = None) -> Features:
        return agent.features(spec, state.obs_statistics, flatten(obs), flatten(action_mask))

    def evaluate(rows: tuple[Features, Array]) -> tuple[Array, Array]:
        log_prob = agent.distribution(spec, state.params.policy, rows[0]).log_prob(rows[1])
        return log_prob, agent.value(spec, state.params.value, rows[0])

    rows, action = features(rollout.obs, rollout.action_mask), flatten(rollout.action)
    log_prob, value = batches.map_rows(evaluate, (rows, action))
    behind = jax.tree.map(lambda last, final: jnp.concatenate([last[None], final]), rollout.last_obs, rollout.final_obs)
    behind_value = agent.value(spec, state.params.value, features(behind)).reshape(-1, rollout.reward.shape[1])
    by_time = value.reshape(rollout.reward.shape)
    following = jnp.concatenate([by_time[1:], behind_value[:1]])
    next_value = true_next(following, behind_value[1:], rollout.truncated)
    reward = normalize.scale_reward(state.reward_statistics, rollout.reward)
    advantage, value_target = returns.gae(
        reward, by_time, next_value, rollout.terminated, rollout.truncated, agent.gamma, agent.gae_lambda
    )
    if agent.normalize_advantage:
        advantage = objectives.normalize_advantage(advantage, rollout.mask)
    return Experience(rows, action, log_prob, value, flatten(advantage), flatten(value_target), flatten(rollout.mask))
