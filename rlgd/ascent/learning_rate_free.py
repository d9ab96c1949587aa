"""Optimizers that estimate their own step size. ``learning_rate`` is a factor of the step that they take, 1 by default.

The estimates begin far too small and grow with what the gradients show. So these methods need no range of step sizes to
search, but some tens of updates before they move visibly.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from optax import contrib

from rlgd.ascent.formulas import Descent, scaled
from rlgd.pytrees import Scalar

FIRST_DISTANCE = 1e-6  # Prodigy's and D-Adaptation's d_0, Mechanic's s_init
MECHANIC_RATES = 6  # each forgets by 0.9, 0.99, 0.999, ...
MECHANIC_PULL = 0.01  # its lambda
MECHANIC_EPSILON = 1e-8
COCOB_ALPHA = 100.0  # bounds the first bets


class ProdigyState(NamedTuple):
    """Averages ``mu`` of d g and ``nu`` of (d g)^2; where it began; the estimate ``d`` and its parts; updates ``t``."""

    mu: Any
    nu: Any
    start: Any
    climbed: Array
    weighted: Any
    d: Array
    t: Array


def prodigy(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """Prodigy (Mishchenko and Defazio, 2024, algorithm 4): Adam times an estimate d of the distance to the optimum.

    optax's divides 0 by 0, and is not a number from then on, if gradient or step size are 0 in the first update.
    """

    def init(params: Any) -> ProdigyState:
        zero, number = jax.tree.map(jnp.zeros_like, params), jnp.zeros((), optax.tree.dtype(params, "lowest"))
        return ProdigyState(zero, zero, params, number, zero, number + FIRST_DISTANCE, jnp.zeros((), jnp.int32))

    def update(gradient: Any, state: ProdigyState, params: Any) -> tuple[Any, ProdigyState]:
        d, t, kept = state.d, state.t + 1, jnp.sqrt(second_moment)
        size = learning_rate * d * jnp.sqrt(1 - second_moment**t) / (1 - momentum**t)
        weight = size * d / FIRST_DISTANCE  # the estimate is a ratio: any factor does, this one keeps it from underflow
        mu = optax.tree.update_moment(optax.tree.scale(d, gradient), state.mu, momentum, 1)
        nu = optax.tree.update_moment_per_elem_norm(optax.tree.scale(d, gradient), state.nu, second_moment, 2)
        way = optax.tree.vdot(gradient, optax.tree.sub(state.start, params))
        climbed = kept * state.climbed + weight * way
        weighted = jax.tree.map(lambda q, g: kept * q + weight * g, state.weighted, gradient)
        length = optax.tree.norm(weighted, ord=1)
        estimate = jnp.where(length > 0, climbed / length, 0)
        step = jax.tree.map(lambda v, s: -size * v / (jnp.sqrt(s) + d * epsilon), mu, nu)
        return step, ProdigyState(mu, nu, state.start, climbed, weighted, jnp.maximum(d, estimate), t)

    return optax.GradientTransformation(init, update)


def dadapt_adam(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """D-Adaptation (Defazio and Mishchenko, 2023) of Adam: times a lower bound d of the distance to the optimum."""
    inner = contrib.dadapt_adamw(learning_rate, (momentum, second_moment), epsilon, FIRST_DISTANCE)

    # In optax the bound is 0 / 0, and stays so, if gradient or step size are 0 in the first update.
    def update(gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
        step, new = inner.update(gradient, state, params)
        known = optax.tree.norm(new.grad_sum, ord=1) > 0
        return step, new._replace(estim_lr=jnp.where(known, new.estim_lr, state.estim_lr))

    return optax.GradientTransformation(inner.init, update)


def dog(learning_rate: Scalar, epsilon: Scalar) -> Descent:
    """Distance over gradients (Ivgi, Hinder and Carmon, 2023), with their first distance, 1e-6 (1 + |w|)."""
    return contrib.dog(learning_rate, eps=epsilon)


def dowg(learning_rate: Scalar, epsilon: Scalar) -> Descent:
    """Distance over weighted gradients (Khaled, Mishchenko and Jin, 2023); as in their code r^2 is epsilon at first."""
    return contrib.dowg(learning_rate, eps=epsilon)


class MechanicState(NamedTuple):
    """Adam's state and the sum of its steps; of each rate the largest and the squared bets, the winnings, the rate."""

    adam: Any
    total: Any
    largest: Array
    squares: Array
    won: Array
    rates: Array


def mechanic(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """Mechanic (Cutkosky, Defazio and Mehta, 2023) around Adam: rates that learn by betting on the next gradient.

    The bets are bounded as in the authors' code. optax's recovers the sum of Adam's steps from the parameters; here it
    is kept, so that schedules and weight decay do not disturb it.
    """
    adam = optax.scale_by_adam(momentum, second_moment, epsilon)

    def init(params: Any) -> MechanicState:
        none = jnp.zeros(MECHANIC_RATES, optax.tree.dtype(params, "lowest"))
        return MechanicState(adam.init(params), jax.tree.map(jnp.zeros_like, params), none, none, none, none)

    def update(gradient: Any, state: MechanicState, params: Any) -> tuple[Any, MechanicState]:
        direction, adam_state = adam.update(gradient, state.adam, params)
        rate = jnp.sum(state.rates)
        pull = MECHANIC_PULL * rate * optax.tree.norm(gradient) / (optax.tree.norm(params) + MECHANIC_EPSILON)
        bet = optax.tree.vdot(gradient, state.total) + pull * optax.tree.vdot(params, state.total)
        keep = 1 - jnp.power(jnp.asarray(0.1, rate.dtype), jnp.arange(1, 1 + MECHANIC_RATES, dtype=rate.dtype))
        largest = jnp.maximum(keep * state.largest, jnp.abs(bet) + MECHANIC_EPSILON)
        squares = jnp.square(keep) * state.squares + jnp.square(bet)
        won = keep * state.won + jnp.clip(bet, -state.largest, state.largest) * state.rates
        wealth = FIRST_DISTANCE / MECHANIC_RATES * largest + jnp.maximum(won, 0)
        rates = wealth / (jnp.sqrt(squares) + MECHANIC_EPSILON)
        total = optax.tree.add(state.total, direction)
        step = jax.tree.map(lambda new, old: jnp.sum(rates) * new - rate * old, total, state.total)
        return step, MechanicState(adam_state, total, largest, squares, won, rates)

    return scaled(learning_rate, optax.GradientTransformation(init, update))


class CocobState(NamedTuple):
    """The way so far, as bet; sums of gradients and of their sizes, the largest size, the winnings."""

    way: Any
    gradients: Any
    sizes: Any
    largest: Any
    won: Any


def cocob(learning_rate: Scalar, epsilon: Scalar) -> Descent:
    """COCOB-Backprop (Orabona and Tommasi, 2017, algorithm 2): each parameter bets a share of its winnings.

    optax's takes the way from the parameters and scales gradients by the step size, on which the bets do not depend.
    Here the way is kept and the step is scaled, so that schedules and weight decay act on it.
    """

    def init(params: Any) -> CocobState:
        zero = jax.tree.map(jnp.zeros_like, params)
        return CocobState(zero, zero, zero, jax.tree.map(lambda w: jnp.full_like(w, epsilon), params), zero)

    def bet(total: Array, size: Array, most: Array, won: Array) -> Array:
        return total / (most * jnp.maximum(size + most, COCOB_ALPHA * most)) * (most + won)

    def update(gradient: Any, state: CocobState, params: Any = None) -> tuple[Any, CocobState]:
        largest = jax.tree.map(lambda most, g: jnp.maximum(most, jnp.abs(g)), state.largest, gradient)
        sizes = jax.tree.map(lambda total, g: total + jnp.abs(g), state.sizes, gradient)
        won = jax.tree.map(lambda won, g, way: jnp.maximum(won - g * way, 0), state.won, gradient, state.way)
        gradients = optax.tree.sub(state.gradients, gradient)
        way = jax.tree.map(bet, gradients, sizes, largest, won)
        return optax.tree.sub(state.way, way), CocobState(way, gradients, sizes, largest, won)

    return scaled(learning_rate, optax.GradientTransformation(init, update))
