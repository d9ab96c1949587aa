"""The formulas of the optimizers as optax transformations."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array
from optax import contrib

from rlgd.pytrees import Scalar

Descent: TypeAlias = optax.GradientTransformation

LBFGS_MEMORY = 10
TRUST_COEFFICIENT = 1e-3  # LARS's eta
ADAN_DIFFERENCES = 0.92  # Adan's coefficient of the mean difference between gradients
ADEMAMIX_KEEPS = 0.999  # AdEMAMix's b3; the paper's is 0.9999, and this for runs of tens of thousands of updates
ADEMAMIX_SHARE = 5.0  # its alpha
MARS_CORRECTION = 0.025  # MARS's gamma


def scaled(learning_rate: Scalar, *parts: Descent) -> Descent:
    """The parts in a chain. The step size comes last, as in PyTorch: a schedule then acts on the whole step."""
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate))


def rmsprop(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """RMSprop (Hinton, 2012, lecture 6e): ``s <- d s + (1-d) g^2``, ``u <- m u + g / sqrt(s + epsilon)``."""
    rms = optax.scale_by_rms(decay=second_moment, eps=epsilon, eps_in_sqrt=True)
    return scaled(learning_rate, rms, optax.trace(decay=momentum))


def rmsprop_centred(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """RMSprop with the standard deviation (Graves, 2013): ``g / sqrt(s - u^2 + epsilon)``, u the average of g."""
    inner = optax.scale_by_stddev(decay=second_moment, eps=epsilon, eps_in_sqrt=True)

    # optax takes the root of s - u^2 + e, which rounding makes negative where gradients are steady.
    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        _, state = inner.update(gradient, state)
        variance = jax.tree.map(lambda s, u: jnp.maximum(s - u * u, 0), state.nu, state.mu)
        return jax.tree.map(lambda g, v: g * jax.lax.rsqrt(v + epsilon), gradient, variance), state

    deviation = optax.GradientTransformation(inner.init, update)
    return scaled(learning_rate, deviation, optax.trace(decay=momentum))


def adam_like(alias: Callable[..., Descent], **fixed: Any) -> Callable[..., Descent]:
    """An optimizer of optax with the arguments of Adam: ``momentum`` is its b1, ``second_moment`` b2, ``epsilon`` eps.

    ``fixed`` are further arguments of ``alias``.
    """

    def build(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
        return alias(learning_rate, b1=momentum, b2=second_moment, eps=epsilon, **fixed)

    return build


def yogi(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """Yogi (Zaheer et al., 2018): Adam with ``s <- s - (1-b2) sign(s - g^2) g^2``."""
    inner = optax.scale_by_yogi(b1=momentum, b2=second_moment, eps=epsilon)

    # optax starts the first moment at 1e-6, too: then the parameters would move without any gradient.
    def init(params: Any) -> Any:
        return inner.init(params)._replace(mu=jax.tree.map(jnp.zeros_like, params))

    return scaled(learning_rate, optax.GradientTransformation(init, inner.update))


class AdanState(NamedTuple):
    """Averages ``m`` of gradients, ``v`` of their differences, ``n`` of squares; last gradient ``g``; updates ``t``."""

    m: Any
    v: Any
    n: Any
    g: Any
    t: Array


def adan(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """Adan as in the paper and its authors' code: differences have the weight 0.92. In optax they have 0.08."""

    def init(params: Any) -> AdanState:
        zero = jax.tree.map(jnp.zeros_like, params)
        return AdanState(zero, zero, zero, zero, jnp.zeros((), jnp.int32))

    def update(gradient: Any, state: AdanState, params: Any = None) -> tuple[Any, AdanState]:
        kept = ADAN_DIFFERENCES
        difference = jax.tree.map(lambda g, last: jnp.where(state.t == 0, 0, g - last), gradient, state.g)
        m = optax.tree.update_moment(gradient, state.m, momentum, 1)
        v = optax.tree.update_moment(difference, state.v, kept, 1)
        ahead = jax.tree.map(lambda g, d: g + kept * d, gradient, difference)
        n = optax.tree.update_moment_per_elem_norm(ahead, state.n, second_moment, 2)
        t = state.t + 1
        averages = zip((m, v, n), (momentum, kept, second_moment), strict=True)
        m_hat, v_hat, n_hat = (optax.tree.bias_correction(average, decay, t) for average, decay in averages)
        step = jax.tree.map(lambda m, v, n: (m + kept * v) / (jnp.sqrt(n) + epsilon), m_hat, v_hat, n_hat)
        return step, AdanState(m, v, n, gradient, t)

    return scaled(learning_rate, optax.GradientTransformation(init, update))


def ademamix(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """AdEMAMix (Pagliardini et al., 2024): Adam with a second, slow average of gradients that begins at 0.

    The paper lets the slow average and its share rise over many updates; here both are what they become.
    """
    slow = {"b3": ADEMAMIX_KEEPS, "alpha": ADEMAMIX_SHARE}
    return contrib.ademamix(learning_rate, momentum, second_moment, eps=epsilon, **slow)


def adopt(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """ADOPT (Taniguchi et al., 2024) with its clipping: each gradient is divided by the second moment before it."""

    # Of an integer optax would take the root in single precision.
    def bound(updates: Array) -> Array:
        return jnp.power(updates.astype(jnp.result_type(learning_rate)), 0.25)

    return contrib.adopt(learning_rate, momentum, second_moment, epsilon, clip_value_fn=bound)


def lars(learning_rate: Scalar, momentum: Scalar) -> Descent:
    """LARS (You et al., 2017): momentum of ``0.001 |w| / |g| g``, with the norms of each leaf."""
    trust = optax.scale_by_trust_ratio(trust_coefficient=TRUST_COEFFICIENT)
    return scaled(learning_rate, trust, optax.trace(decay=momentum))


def sm3(learning_rate: Scalar, momentum: Scalar) -> Descent:
    """SM3 (Anil et al., 2019): AdaGrad with a bound on the sum of squares for each index of each axis."""
    inner = optax.scale_by_sm3(b1=momentum)

    # optax's SM3 does not support scalars, which have no axis to keep a maximum of.
    def vectors(tree: Any) -> Any:
        return jax.tree.map(jnp.atleast_1d, tree)

    def init(params: Any) -> Any:
        return inner.init(vectors(params))._replace(nu=jax.tree.map(jnp.zeros_like, params))

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        step, state = inner.update(vectors(gradient), state._replace(nu=vectors(state.nu)))
        step = jax.tree.map(lambda x, g: x.reshape(g.shape), step, gradient)
        return step, state._replace(nu=step)  # the step is the first moment

    return scaled(learning_rate, optax.GradientTransformation(init, update))


def adafactor(learning_rate: Scalar, momentum: Scalar, epsilon: Scalar) -> Descent:
    """Adafactor (Shazeer and Stern, 2018): second moments of large matrices as an outer product of a row and a column.

    The step is clipped to a root mean square of 1 and scaled by that of the weights, for each leaf.
    """
    return scaled(
        learning_rate,
        optax.scale_by_factored_rms(epsilon=epsilon),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
        optax.ema(momentum, debias=False),
    )


class MarsState(NamedTuple):
    """Adam's state, and the last gradient."""

    adam: Any
    last: Any


def mars(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """MARS-AdamW (Yuan et al., 2024, algorithm 2): Adam of gradients that their last change corrects.

    It is the paper's approximate form, whose last gradient is that of the last data, not that of these data at the
    last parameters.
    """
    adam = optax.scale_by_adam(momentum, second_moment, epsilon)

    def init(params: Any) -> MarsState:
        return MarsState(adam.init(params), jax.tree.map(jnp.zeros_like, params))

    def update(gradient: Any, state: MarsState, params: Any = None) -> tuple[Any, MarsState]:
        share = jnp.where(state.adam.count == 0, 0, MARS_CORRECTION * momentum / (1 - momentum))
        corrected = jax.tree.map(lambda g, last: g + share * (g - last), gradient, state.last)
        corrected = optax.tree.scale(1 / jnp.maximum(optax.tree.norm(corrected), 1), corrected)
        step, moments = adam.update(corrected, state.adam)
        return step, MarsState(moments, gradient)

    return scaled(learning_rate, optax.GradientTransformation(init, update))


def muon(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """Muon (Jordan et al., 2024): momentum, made orthogonal by Newton-Schulz iterations, for hidden matrices.

    As its author recommends, the first and the last layer, vectors and numbers have Adam, with Nesterov's momentum too.
    """
    orthogonal = contrib.muon(learning_rate, beta=momentum, eps=epsilon)
    adam = optax.nadam(learning_rate, momentum, second_moment, epsilon)

    def part(params: Any) -> Any:
        leaves, structure = jax.tree.flatten(params)
        layers = [place for place, leaf in enumerate(leaves) if leaf.ndim >= 2]
        hidden = [place in layers[1:-1] and leaf.ndim == 2 for place, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, ["muon" if matrix else "adam" for matrix in hidden])

    return optax.partition({"muon": orthogonal, "adam": adam}, part)


def schedule_free_sgd(learning_rate: Scalar, momentum: Scalar, weight_decay: Scalar) -> Descent:
    """Schedule-free SGD (Defazio et al., 2024): gradients are taken between the iterate and the average of iterates.

    ``momentum`` is b1, the weight of the average. The decay belongs to the gradient.
    """
    base = scaled(learning_rate, optax.add_decayed_weights(weight_decay))
    return contrib.schedule_free(base, learning_rate, b1=momentum)


def schedule_free_adamw(
    learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar, weight_decay: Scalar
) -> Descent:
    """Schedule-free AdamW (Defazio et al., 2024): as ``schedule_free_sgd``, with ``g / (sqrt(s) + epsilon)`` for g.

    ``s`` is Adam's second moment with its bias correction; the decay is decoupled from it.
    """
    rms = optax.scale_by_rms(decay=second_moment, eps=epsilon, eps_in_sqrt=False, bias_correction=True)
    base = scaled(learning_rate, rms, optax.add_decayed_weights(weight_decay))
    return contrib.schedule_free(base, learning_rate, b1=momentum)


def lbfgs(learning_rate: Scalar) -> Descent:
    """L-BFGS (Liu and Nocedal, 1989) with 10 pairs in memory and a fixed step size instead of a line search."""
    inner = optax.scale_by_lbfgs(memory_size=LBFGS_MEMORY)

    # With the wrong sign of curvature in its memory, which a line search would have prevented, H points downhill.
    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        direction, state = inner.update(gradient, state, params)
        same_side = optax.tree.vdot(direction, gradient) > 0
        shorter = 1 / jnp.maximum(optax.tree.norm(gradient), 1)  # as optax takes the first step
        return jax.tree.map(lambda d, g: jnp.where(same_side, d, shorter * g), direction, gradient), state

    return scaled(learning_rate, optax.GradientTransformation(inner.init, update))
