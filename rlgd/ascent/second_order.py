"""Optimizers that precondition a matrix from both sides, by what its gradients have shown of its rows and columns.

An array of more than two axes is a matrix here, with all axes but the last in one. Factorizations take most of the
time, so most updates use old ones; for sides longer than ``LONGEST`` there are none.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.custom_batching import sequential_vmap

from rlgd.ascent.formulas import Descent, scaled
from rlgd.pytrees import Scalar

LONGEST = 1024
PERIOD = 10  # updates from one factorization to the next


def _matrix(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


class ShampooState(NamedTuple):
    """Average ``mu`` of gradients; of each array the sums of squares for its sides and their roots; updates ``t``."""

    mu: Any
    sums: Any
    roots: Any
    t: Array


def shampoo(learning_rate: Scalar, momentum: Scalar, epsilon: Scalar) -> Descent:
    """Shampoo (Gupta, Koren and Singer, 2018, algorithm 1): ``L^(-1/4) v R^(-1/4)``, with momentum on the gradient.

    ``L`` is the sum of ``g g^T``, ``R`` that of ``g^T g``, both begin at ``epsilon I``. Vectors, and sides longer than
    ``LONGEST``, have the diagonal form. While few gradients are known, the roots are renewed in every update: where
    the first gradients show nothing, they are as large as epsilon allows.
    """
    epsilon = jnp.asarray(epsilon)

    def init(params: Any) -> ShampooState:
        def first(w: Array) -> tuple[Array, ...]:
            if w.ndim < 2:
                return (jnp.full_like(w, epsilon),)
            lengths = _matrix(w).shape
            return tuple(
                epsilon * (jnp.eye(n, dtype=w.dtype) if n <= LONGEST else jnp.ones(n, w.dtype)) for n in lengths
            )

        sums = jax.tree.map(first, params)
        return ShampooState(jax.tree.map(jnp.zeros_like, params), sums, sums, jnp.zeros((), jnp.int32))

    def added(g: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        if g.ndim < 2:
            return (sums[0] + jnp.square(g),)
        sides = zip(sums, (_matrix(g), _matrix(g).T), strict=True)
        return tuple(s + (x @ x.T if s.ndim == 2 else jnp.sum(jnp.square(x), axis=1)) for s, x in sides)

    def preconditioned(v: Array, roots: tuple[Array, ...]) -> Array:
        if v.ndim < 2:
            return roots[0] * v
        left, right = roots
        x = left @ _matrix(v) if left.ndim == 2 else left[:, None] * _matrix(v)
        return (x @ right if right.ndim == 2 else x * right).reshape(v.shape)

    def update(gradient: Any, state: ShampooState, params: Any = None) -> tuple[Any, ShampooState]:
        t = state.t + 1
        mu = optax.tree.update_moment(gradient, state.mu, momentum, 1)
        sums = jax.tree.map(added, gradient, state.sums)
        due = (t <= PERIOD) | (t % PERIOD == 0)
        roots = jax.tree.map(lambda g, new, old: _roots(due, new, old, epsilon), gradient, sums, state.roots)
        return jax.tree.map(preconditioned, mu, roots), ShampooState(mu, sums, roots, t)

    return scaled(learning_rate, optax.GradientTransformation(init, update))


class SoapState(NamedTuple):
    """Average ``mu`` of gradients, ``nu`` of squares in the bases; of each side its average and basis; updates."""

    mu: Any
    nu: Any
    sides: Any
    bases: Any
    t: Array


def soap(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """SOAP (Vyas et al., 2024, algorithm 3): Adam in the eigenbases of the averages of ``g g^T`` and ``g^T g``.

    The bases begin as they are, so that the first steps are Adam's, and turn towards the eigenvectors by a step of
    orthogonal iteration at a time (algorithm 4). The paper's code takes the eigenvectors of the first gradient, which
    has fewer than a side of it. Vectors, and sides longer than ``LONGEST``, keep their basis.
    """

    def init(params: Any) -> SoapState:
        def squares(w: Array) -> tuple[Array | None, ...]:
            lengths = _matrix(w).shape if w.ndim >= 2 else ()
            return tuple(jnp.eye(n, dtype=w.dtype) if n <= LONGEST else None for n in lengths)

        zero, bases = jax.tree.map(jnp.zeros_like, params), jax.tree.map(squares, params)
        return SoapState(zero, zero, jax.tree.map(jnp.zeros_like, bases), bases, jnp.zeros((), jnp.int32))

    def averaged(g: Array, sides: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
        matrices = (_matrix(g), _matrix(g).T) if sides else ()
        return tuple(
            None if side is None else second_moment * side + (1 - second_moment) * x @ x.T
            for side, x in zip(sides, matrices, strict=True)
        )

    def turned(x: Array, bases: tuple[Array | None, ...], back: bool = False) -> Array:
        if not bases:
            return x
        left, right = bases
        y = _matrix(x)
        y = y if left is None else (left if back else left.T) @ y
        return (y if right is None else y @ (right.T if back else right)).reshape(x.shape)

    def update(gradient: Any, state: SoapState, params: Any = None) -> tuple[Any, SoapState]:
        t, bases = state.t + 1, state.bases
        mu = optax.tree.update_moment(gradient, state.mu, momentum, 1)
        seen = jax.tree.map(turned, gradient, bases)
        nu = optax.tree.update_moment_per_elem_norm(seen, state.nu, second_moment, 2)
        mu_hat = optax.tree.bias_correction(mu, momentum, t)
        nu_hat = optax.tree.bias_correction(nu, second_moment, t)
        step = jax.tree.map(
            lambda v, s, q: turned(turned(v, q) / (jnp.sqrt(s) + epsilon), q, back=True), mu_hat, nu_hat, bases
        )
        sides = jax.tree.map(averaged, gradient, state.sides)
        bases = jax.tree.map(lambda side, basis: _basis(t % PERIOD == 0, side, basis), sides, bases)
        return step, SoapState(mu, nu, sides, bases, t)

    return scaled(learning_rate, optax.GradientTransformation(init, update))


# Under vmap these run one after the other. Several batched factorizations in a program can wait for each other for good
# on the CPU; and vmap makes a condition compute both of its branches, here in every update.


@sequential_vmap  # type: ignore[untyped-decorator]
def _roots(due: Array, sums: tuple[Array, ...], old: tuple[Array, ...], least: Array) -> tuple[Array, ...]:
    """``sums^(-1 / (2 k))`` of an array's k sides if it is due; the eigenvalues are at least ``least``."""
    power = -0.5 / len(sums)

    def root(side: Array) -> Array:
        if side.ndim < 2:
            return side**power
        values, vectors = jnp.linalg.eigh(side)
        return (vectors * jnp.maximum(values, least)[None, :] ** power) @ vectors.T

    return jax.lax.cond(due, lambda: tuple(map(root, sums)), lambda: old)


@sequential_vmap  # type: ignore[untyped-decorator]
def _basis(due: Array, side: Array, old: Array) -> Array:
    """The old basis after a step of orthogonal iteration, if it is due."""
    return jax.lax.cond(due, lambda: jnp.linalg.qr(side @ old)[0], lambda: old)
