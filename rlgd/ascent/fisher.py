"""Optimizers that divide by the Fisher matrix: by its diagonal, or by the matrices of dense layers.

The Fisher matrix is the mean of ``score score^T``, the score being the gradient of the log-likelihood of what the model
itself draws at a row. A gradient of the objective does not tell it, so ``update`` takes an estimate as ``fisher``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.custom_batching import sequential_vmap

from rlgd.ascent.formulas import Descent, scaled
from rlgd.ascent.second_order import LONGEST, PERIOD
from rlgd.pytrees import Scalar

SOPHIA_GAMMA = 0.05  # as in the paper's Sophia-G
TRANSPOSED = "OutputLayer"  # begins the names of dense layers whose kernel is [outputs, inputs]
LEAST_TRACE = 1e-12


class Fisher(NamedTuple):
    """An estimate of the Fisher matrix at the rows of a gradient.

    Attributes:
        score: like the parameters; the root of the number of rows times the mean of their scores. Its square is an
            unbiased estimate of the diagonal.
        factors: of dense layers by their names in ``dense_layers``: the mean of a a^T and that of g g^T over the rows,
            a being the layer's inputs with a 1 after them, and g the gradient with respect to its outputs.
    """

    score: Any
    factors: Any


class DenseLayer(NamedTuple):
    """Kernel ``[inputs, outputs]``, or ``[outputs, inputs]`` if it is ``transposed``, and bias ``[outputs]``."""

    kernel: Array
    bias: Array
    transposed: bool

    @property
    def sizes(self) -> tuple[int, int]:
        """Inputs, with one more for the bias, and outputs."""
        return self.kernel.size // self.bias.size + 1, self.bias.size

    @property
    def matrix(self) -> Array:
        """``[inputs + 1, outputs]``, the bias last."""
        return jnp.concatenate([self.kernel.T if self.transposed else self.kernel, self.bias[None]])


def dense_layers(tree: Any) -> dict[str, DenseLayer]:
    """What the names and shapes of its arrays show to be dense layers with a bias, by the path to them.

    Those with a side longer than ``LONGEST`` are left out.
    """
    found: dict[str, dict[str, Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name, part = _place(path)
        found.setdefault(name, {})[part] = leaf
    layers = {}
    for name, parts in found.items():
        kernel, bias = parts.get("kernel"), parts.get("bias")
        if kernel is None or bias is None or kernel.ndim != 2 or bias.ndim != 1:
            continue
        layer = DenseLayer(kernel, bias, name.rpartition("/")[2].startswith(TRANSPOSED))
        if kernel.shape[0 if layer.transposed else 1] == bias.size and max(layer.sizes) <= LONGEST:
            layers[name] = layer
    return layers


def _place(path: Any) -> tuple[str, str]:
    """The name of the layer at a path, and that of its part."""
    layer, _, part = jax.tree_util.keystr(path, simple=True, separator="/").rpartition("/")
    return layer, part


class SophiaState(NamedTuple):
    """Averages ``mu`` of gradients and ``nu`` of squared scores."""

    mu: Any
    nu: Any


def sophia(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """Sophia-G (Liu et al., 2023, algorithm 3), with an estimate of the diagonal in each update, not in each tenth."""

    def init(params: Any) -> SophiaState:
        zero = jax.tree.map(jnp.zeros_like, params)
        return SophiaState(zero, zero)

    def update(
        gradient: Any, state: SophiaState, params: Any = None, *, fisher: Fisher | None = None, **_: Any
    ) -> tuple[Any, SophiaState]:
        mu = optax.tree.update_moment(gradient, state.mu, momentum, 1)
        score = gradient if fisher is None else fisher.score
        nu = optax.tree.update_moment_per_elem_norm(score, state.nu, second_moment, 2)
        step = jax.tree.map(lambda v, s: jnp.clip(v / jnp.maximum(SOPHIA_GAMMA * s, epsilon), -1, 1), mu, nu)
        return step, SophiaState(mu, nu)

    return scaled(learning_rate, optax.GradientTransformationExtraArgs(init, update))


class KfacState(NamedTuple):
    """Averages ``mu`` of gradients, ``nu`` of squared scores; of each dense layer those of its factors, and inverses.

    ``t`` counts updates.
    """

    mu: Any
    nu: Any
    factors: dict[str, tuple[Array, Array]]
    inverses: dict[str, tuple[Array, Array]]
    t: Array


def kfac(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """K-FAC (Martens and Grosse, 2015) as in ACKTR (Wu et al., 2017): each dense layer's step is ``A^-1 v G^-1``.

    ``A`` and ``G`` are damped by the roots of epsilon (section 6.3) and renewed as in ``shampoo``. ``v`` averages
    gradients, where ACKTR averages steps. Parameters that are of no dense layer, or of one whose factors were never
    given, are divided by the diagonal. An update without ``fisher`` leaves the factors as they are.
    """

    def init(params: Any) -> KfacState:
        zero = jax.tree.map(jnp.zeros_like, params)
        blank = {name: _blank(layer) for name, layer in dense_layers(params).items()}
        return KfacState(zero, zero, blank, blank, jnp.zeros((), jnp.int32))

    def update(
        gradient: Any, state: KfacState, params: Any = None, *, fisher: Fisher | None = None, **_: Any
    ) -> tuple[Any, KfacState]:
        t = state.t + 1
        given = Fisher(gradient, {}) if fisher is None else fisher
        mu = optax.tree.update_moment(gradient, state.mu, momentum, 1)
        nu = optax.tree.update_moment_per_elem_norm(given.score, state.nu, second_moment, 2)
        diagonal = optax.tree.bias_correction(nu, second_moment, t)
        step = jax.tree.map(lambda v, s: v / (s + epsilon), mu, diagonal)
        old = {name: state.factors[name] for name in given.factors}
        factors = optax.tree.update_moment(given.factors, old, second_moment, 1)
        due = (t <= PERIOD) | (t % PERIOD == 0)
        inverses = {
            name: _inverses(due, both, state.inverses[name], jnp.asarray(epsilon, both[0].dtype))
            for name, both in optax.tree.bias_correction(factors, second_moment, t).items()
        }
        after = KfacState(mu, nu, state.factors | factors, state.inverses | inverses, t)
        return _with_layers(step, after), after

    return scaled(learning_rate, optax.GradientTransformationExtraArgs(init, update))


def _blank(layer: DenseLayer) -> tuple[Array, Array]:
    inputs, outputs = (jnp.zeros((size, size), layer.bias.dtype) for size in layer.sizes)
    return inputs, outputs


def _with_layers(step: Any, state: KfacState) -> Any:
    """The step, with that of each dense layer whose factors are known in its place."""
    plain, layers = dense_layers(step), {}
    for name, layer in dense_layers(state.mu).items():
        inputs, outputs = state.inverses[name]
        matrix = inputs @ layer.matrix @ outputs
        is_known = jnp.trace(state.factors[name][0]) > 0  # the 1 after the inputs is in it
        kernel = matrix[:-1].T if layer.transposed else matrix[:-1]
        layers[name] = {
            "kernel": jnp.where(is_known, kernel, plain[name].kernel),
            "bias": jnp.where(is_known, matrix[-1], plain[name].bias),
        }

    def chosen(path: Any, otherwise: Array) -> Array:
        name, part = _place(path)
        return layers.get(name, {}).get(part, otherwise)

    return jax.tree_util.tree_map_with_path(chosen, step)


@sequential_vmap  # type: ignore[untyped-decorator]
def _inverses(
    due: Array, factors: tuple[Array, Array], old: tuple[Array, Array], damping: Array
) -> tuple[Array, Array]:
    """The inverses of both factors with their shares of the damping, if they are due; see ``second_order._roots``."""

    def renewed() -> tuple[Array, Array]:
        inputs, outputs = factors
        mean = jnp.trace(outputs) / len(outputs)
        pi = jnp.sqrt(jnp.trace(inputs) / len(inputs) / jnp.maximum(mean, LEAST_TRACE))
        root = jnp.sqrt(damping)
        return _inverse(inputs, pi * root), _inverse(outputs, root / pi)

    return jax.lax.cond(due, renewed, lambda: old)


def _inverse(factor: Array, damping: Array) -> Array:
    """``(factor + damping I)^-1``, by sweeps over the diagonal, which need no pivots in a positive definite matrix.

    Where processes share the CPU, the threads of its linear algebra wait for each other hundreds of times as long.
    """

    def sweep(k: Array, x: Array) -> Array:
        column, row = x[:, k], x[k] / x[k, k]
        swept = x - jnp.outer(column, row)
        return swept.at[k].set(row).at[:, k].set(-column / x[k, k]).at[k, k].set(1 / x[k, k])

    size = len(factor)
    return jax.lax.fori_loop(0, size, sweep, factor + damping * jnp.eye(size, dtype=factor.dtype))
