"""Estimates of the Fisher matrix for optimizers that read one, from outputs that policy and value function draw.

The value function is the mean of a Gaussian of variance 1, whose Fisher matrix is the curvature of half the squared
error. Actions and values are drawn independently, so that one gradient tells both, also of layers that both read. They
are not the actions that were taken: the squares of the gradient of the objective are those of advantages, too.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.ascent.fisher import Fisher, dense_layers
from rlgd.maths import blocks
from rlgd.models.recording import recorded
from rlgd.pytrees import Features, Params, Scalar
from rlgd.spaces import Spec

DRAWN = 2**30  # folded into the keys of what is drawn; the numbers of blocks, for dropout, are smaller

Block: TypeAlias = tuple[Features, Array | None]  # rows and their mask
# The sum over blocks of rows of a function of each and its number.
Sum: TypeAlias = Callable[[Callable[[Block, Array], Any], Block], Any]


class Weights(NamedTuple):
    """What the Fisher matrices of policy and value function are multiplied by; value None: none is learned."""

    policy: Scalar = 1.0
    value: Scalar | None = 1.0


def sum_over_rows(of_block: Callable[[Block, Array], Any], rows: Block) -> Any:
    """The sum over blocks as gradients have them."""
    return blocks.weighted_sum(lambda block, _, number: of_block(block, number), rows, rows[1], may_be_beside=False)


def is_read(agent: Agent) -> bool:
    """Whether one of its optimizers reads an estimate."""
    return bool(agent.ascent.fisher or agent.value_ascent.fisher)


def fisher(
    agent: Agent,
    spec: Spec,
    params: Params,
    rows: Block,
    key: Array,
    weights: Weights,
    summed: Sum = sum_over_rows,
) -> Fisher | None:
    """An estimate at rows, whose ``score`` and ``factors`` are those of policy and value function as ``Params``.

    None if their optimizers read none: nothing is computed then.

    Args:
        agent, spec: as in ``Agent.update``.
        params: where the estimate is taken.
        rows: the features ``[rows, ...]`` that the gradient is of, and the mask, of which None are all.
        key: that of the gradient, for dropout.
        weights: with them it is the curvature of what the gradient is of.
        summed: sums over blocks of rows.
    """
    if not is_read(agent):
        return None
    with_factors = "layers" in (agent.ascent.fisher, agent.value_ascent.fisher)
    model, drawn_key = agent.networks(spec), jax.random.fold_in(key, DRAWN)

    def log_likelihood(params: Params, added: dict[str, Array], block: Block, key: Array) -> tuple[Array, Any]:
        """That of drawn outputs, summed over rows; inputs and outputs of the layers that read each row once."""
        features, mask = block
        action_key, value_key = jax.random.split(key)
        layers = dense_layers(params) if with_factors else {}
        policy, seen = recorded(lambda: model.distribution(params.policy, features), layers, added)
        action = jax.lax.stop_gradient(jax.tree.map(jax.lax.stop_gradient, policy).sample(action_key))
        total = jnp.sqrt(weights.policy) * policy.log_prob(action)
        if weights.value is not None:
            output, more = recorded(lambda: model.read_value(params, features), layers, added)
            noise = jax.random.normal(value_key, total.shape, total.dtype)
            total += jnp.sqrt(weights.value) * noise * output.outputs[..., 0]
            seen = more | seen
        total = total if mask is None else jnp.where(mask, total, 0)
        of_rows = {name: pair for name, pair in seen.items() if all(x.shape[:-1] == total.shape for x in pair)}
        return jnp.sum(total), of_rows

    def of_block(block: Block, number: Array) -> tuple[Params, Any]:
        key = jax.random.fold_in(drawn_key, number)
        # The gradient with respect to what is added to a layer's outputs is that with respect to the outputs.
        found = jax.eval_shape(lambda params: log_likelihood(params, {}, block, key)[1], params)
        added = {name: jnp.zeros(outputs.shape, outputs.dtype) for name, (_, outputs) in found.items()}
        (score, slopes), seen = jax.grad(log_likelihood, argnums=(0, 1), has_aux=True)(params, added, block, key)
        return score, {
            name: (_squares(_with_one(inputs), block[1]), _squares(slopes[name])) for name, (inputs, _) in seen.items()
        }

    score, factors = summed(of_block, rows)
    count = jnp.maximum(num_valid(rows), 1)
    root = jnp.sqrt(count)
    means = jax.tree.map(lambda x: x / count.astype(x.dtype), factors)

    def of_part(part: str) -> dict[str, Any]:
        return {name.removeprefix(part): both for name, both in means.items() if name.startswith(part)}

    return Fisher(
        jax.tree.map(lambda x: x / root.astype(x.dtype), score), Params(of_part("policy/"), of_part("value/"))
    )


def num_valid(rows: Block) -> Array:
    """The number of rows that count, as a float."""
    features, mask = rows
    kind = jax.dtypes.canonicalize_dtype(float)
    if mask is None:
        return jnp.asarray(math.prod(features.vector.shape[:-1]), kind)
    return jnp.sum(mask, dtype=kind)


def _with_one(x: Array) -> Array:
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)


def _squares(x: Array, mask: Array | None = None) -> Array:
    """The sum of x x^T over the mask's rows, ``[..., size]`` to ``[size, size]``."""
    x = x if mask is None else jnp.where(mask[..., None], x, 0)
    rows = x.reshape(-1, x.shape[-1])
    return rows.T @ rows
