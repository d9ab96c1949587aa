"""The gradient of what an agent climbs, summed over blocks of rows as the processor likes them."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.agents.base.experience import Experience
from rlgd.maths import blocks, objectives
from rlgd.maths.distributions import Distribution
from rlgd.pytrees import Metrics, Params, Scalar
from rlgd.spaces import Spec

# Of the action distribution at rows: a mean over them that the policy climbs, and metrics, which are means too.
Surrogate = Callable[[Distribution, Experience], tuple[Array, Metrics]]
# Of the values at rows: a mean over them that the value function descends.
ErrorFunction = Callable[[Array, Experience], Array]
# Of a policy's parameters at rows, and a dropout key or None: what it climbs, and metrics.
PolicyObjective = Callable[[Any, Experience, Array | None], tuple[Array, Metrics]]


class Gradient(Protocol):
    """What ``policy_and_value_gradient`` returns."""

    def __call__(self, params: Params, rows: Experience, key: Array | None = None) -> tuple[Params, Metrics]:
        """The gradient at ``params``, the mean over all rows, and the metrics.

        Args:
            params: where one of the two trees is None, its part of the objective is left out.
            rows: whatever they are cut into, ``[rows, ...]`` leads.
            key: for dropout; None without.
        """
        ...


def squared_error(value: Array, rows: Experience) -> Array:
    """Half the mean squared error of the values ``[rows, ...]``."""
    return objectives.value_error(value, rows.value_target, rows.mask)


def policy_objective(agent: Agent, spec: Spec, progress: Array, surrogate: Surrogate) -> PolicyObjective:
    """The surrogate with its entropy bonus, a function of the policy's parameters.

        surrogate + entropy_weight * entropy

    Its metrics are ``train/objective``, the surrogate alone, ``train/entropy``, and those of ``surrogate``.
    """
    model, climbed = agent.networks(spec), _with_entropy(agent, progress, surrogate)

    def objective(policy: Any, rows: Experience, key: Array | None) -> tuple[Array, Metrics]:
        return climbed(model.distribution(policy, rows.features, key), rows)

    return objective


def _with_entropy(agent: Agent, progress: Array, surrogate: Surrogate) -> Surrogate:
    """``policy_objective`` of a distribution at rows."""

    def climbed(distribution: Distribution, rows: Experience) -> tuple[Array, Metrics]:
        gain, metrics = surrogate(distribution, rows)
        entropy = objectives.masked_mean(objectives.weighted(distribution.entropy(), rows.weight), rows.mask)
        metrics = {"train/objective": gain, "train/entropy": entropy} | metrics
        return gain + agent.entropy_weight(progress) * entropy, metrics

    return climbed


def policy_and_value_gradient(
    agent: Agent,
    spec: Spec,
    progress: Array,
    surrogate: Surrogate,
    value_error: ErrorFunction = squared_error,
    vf_coef: Scalar = 1.0,
) -> Gradient:
    """The gradient of what policy and value function climb together, and its metrics.

        surrogate + entropy_weight * entropy - vf_coef * value_error

    Args:
        agent, spec, progress: as in ``Agent.update``.
        surrogate: what the policy climbs, of its distribution at rows; see ``rlgd.maths.objectives``.
        value_error: what the value function descends, of its values at rows.
        vf_coef: weight of the value error.
    """
    model, climbed = agent.networks(spec), _with_entropy(agent, progress, surrogate)

    def objective(params: Params, rows: Experience, share: Array, keys: tuple[Any, Any]) -> tuple[Array, Metrics]:
        metrics: Metrics = {}
        total = None
        decision, value = model.read(params, rows.features, keys)
        if decision is not None:
            total, metrics = climbed(decision.policy, rows)
        if value is not None:
            error = value_error(value.outputs[..., 0], rows)
            total = -(vf_coef * error) if total is None else total - vf_coef * error
            metrics = metrics | {"train/value_error": error}
        assert total is not None
        return share * total, jax.tree.map(lambda x: share * x, metrics)

    def gradient(params: Params, rows: Experience, key: Array | None = None) -> tuple[Params, Metrics]:
        def of_block(block: Experience, share: Array, number: Array) -> tuple[Params, Metrics]:
            keys = dropout_keys(agent, key, number)
            return jax.grad(objective, has_aux=True)(params, block, share, keys)

        # Two networks that are computed as one have an axis for it; blocks, one more, would cost transposes.
        is_one = params.policy is None or params.value is None
        return blocks.weighted_sum(of_block, rows, rows.mask, may_be_beside=is_one)

    return gradient


def dropout_keys(agent: Agent, key: Array | None, number: Array | int) -> tuple[Array | None, Array | None]:
    """Keys for policy and value function in the block ``number`` of a batch; None without dropout."""
    if agent.dropout is None or key is None:
        return None, None
    policy_key, value_key = jax.random.split(jax.random.fold_in(key, number))
    return policy_key, value_key
