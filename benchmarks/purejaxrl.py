"""PPO in the way of PureJaxRL (Lu et al. 2022, "Discovered policy optimisation", arXiv 2210.05639).

The whole training is one function of nested scans, each environment resets itself in every step, and minibatches are a
sorted permutation.

Written for this benchmark after the paper's description and settings; PureJaxRL is no package that could be installed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from rlgd.envs.functional.cartpole import CartPole

LENGTH, EPOCHS, MINIBATCHES, LIMIT = 128, 4, 4, 500
GAMMA, LAMBDA, CLIP, VF_COEF, LEARNING_RATE, MAX_NORM = 0.99, 0.95, 0.2, 0.5, 2.5e-4, 0.5


class ActorCritic(nn.Module):
    """Two networks of two layers of 64 tanh units."""

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        outputs = []
        for size, scale in ((2, 0.01), (1, 1.0)):
            hidden = x
            for _ in range(2):
                hidden = nn.tanh(nn.Dense(64, kernel_init=nn.initializers.orthogonal(2**0.5))(hidden))
            outputs.append(nn.Dense(size, kernel_init=nn.initializers.orthogonal(scale))(hidden))
        return outputs[0], outputs[1][..., 0]


class Row(NamedTuple):
    """A step of each environment, ``[N, ...]``."""

    done: Array
    action: Array
    value: Array
    reward: Array
    log_prob: Array
    obs: Array


def _step(key: Array, state: Array, elapsed: Array, action: Array) -> tuple[Array, Array, Array, Array]:
    """One step of one environment, with a reset computed in every step."""
    env = CartPole()
    following = env.transition(state, action, key)
    reward = env.reward(state, action, following, key)
    done = env.terminal(following, key) | (elapsed + 1 >= LIMIT)
    return jnp.where(done, env.initial(key), following), jnp.where(done, 0, elapsed + 1), reward, done


def _log_prob(logits: Array, action: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], -1)[..., 0]


def _evaluate(params: Any, obs: Array) -> tuple[Array, Array]:
    outputs: Any = ActorCritic().apply(params, obs)
    return outputs[0], outputs[1]


def _loss(params: Any, batch: tuple[Row, Array, Array]) -> Array:
    rows, advantage, target = batch
    logits, value = _evaluate(params, rows.obs)
    clipped = rows.value + jnp.clip(value - rows.value, -CLIP, CLIP)
    value_loss = 0.5 * jnp.mean(jnp.maximum(jnp.square(value - target), jnp.square(clipped - target)))
    ratio = jnp.exp(_log_prob(logits, rows.action) - rows.log_prob)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage)
    return -jnp.mean(gain) + VF_COEF * value_loss


def training(num_envs: int, iterations: int) -> Callable[[], int]:
    """Trains ``iterations`` iterations with each call, and returns the steps that it made."""
    env = CartPole()
    optimizer = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(LEARNING_RATE, eps=1e-5))

    def collect(carry: Any, _: None) -> tuple[Any, Row]:
        params, state, elapsed, key = carry
        key, act_key, step_key = jax.random.split(key, 3)
        logits, value = _evaluate(params, state)
        action = jax.random.categorical(act_key, logits)
        keys = jax.random.split(step_key, num_envs)
        following, elapsed, reward, done = jax.vmap(_step)(keys, state, elapsed, action)
        row = Row(done, action, value, reward, _log_prob(logits, action), state)
        return (params, following, elapsed, key), row

    def advantages(rows: Row, last_value: Array) -> Array:
        def back(carry: tuple[Array, Array], row: Row) -> tuple[tuple[Array, Array], Array]:
            gae, next_value = carry
            delta = row.reward + GAMMA * next_value * (1 - row.done) - row.value
            gae = delta + GAMMA * LAMBDA * (1 - row.done) * gae
            return (gae, row.value), gae

        return jax.lax.scan(back, (jnp.zeros_like(last_value), last_value), rows, reverse=True, unroll=16)[1]

    def iteration(carry: Any, _: None) -> tuple[Any, None]:
        params, opt_state, state, elapsed, key = carry
        (_, state, elapsed, key), rows = jax.lax.scan(collect, (params, state, elapsed, key), None, LENGTH)
        advantage = advantages(rows, _evaluate(params, state)[1])
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (rows, advantage, advantage + rows.value))

        def epoch(carry: Any, key: Array) -> tuple[Any, None]:
            order = jax.random.permutation(key, LENGTH * num_envs)
            parts = jax.tree.map(lambda x: x[order].reshape(MINIBATCHES, -1, *x.shape[1:]), batch)

            def update(carry: Any, part: Any) -> tuple[Any, None]:
                params, opt_state = carry
                gradient = jax.grad(lambda params: _loss(params, part))(params)
                change, opt_state = optimizer.update(gradient, opt_state)
                return (optax.apply_updates(params, change), opt_state), None

            return jax.lax.scan(update, carry, parts)

        key, epochs_key = jax.random.split(key)
        (params, opt_state), _ = jax.lax.scan(epoch, (params, opt_state), jax.random.split(epochs_key, EPOCHS))
        return (params, opt_state, state, elapsed, key), None

    program = jax.jit(lambda carry: jax.lax.scan(iteration, carry, None, iterations)[0])
    key = jax.random.key(0)
    params = ActorCritic().init(key, jnp.zeros(4))
    state = jax.vmap(env.initial)(jax.random.split(key, num_envs))
    carry = (params, optimizer.init(params), state, jnp.zeros(num_envs, jnp.int32), key)

    def run() -> int:
        nonlocal carry
        carry = jax.block_until_ready(program(carry))
        return iterations * LENGTH * num_envs

    return run
