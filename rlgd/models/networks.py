"""Networks as pairs of pure functions, from features to outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.models.recurrent import Recurrence
from rlgd.models.torsos import MLP, ImageMLP, NetworkOutput, RecurrentMLP
from rlgd.pytrees import Features, Scalar

COMPUTE_DTYPES = ("float32", "bfloat16")


class Network(NamedTuple):
    """``init(key) -> params``, ``read(params, features, key=None) -> NetworkOutput`` and ``apply``: the outputs alone.

    With a key, hidden units are dropped at random if the network has ``dropout``; without a key, none is.
    """

    init: Callable[[Array], Any]
    read: Callable[..., NetworkOutput]

    def apply(self, params: Any, features: Features, key: Array | None = None) -> Array:
        """``[..., outputs]``."""
        return self.read(params, features, key).outputs


def network(
    inputs: int,
    outputs: int,
    hidden_sizes: tuple[int, ...] = (64, 64),
    activation: str = "tanh",
    initialization: str = "orthogonal",
    output_scale: float = 1.0,
    dropout: Scalar | None = None,
    images: tuple[tuple[int, int, int], ...] = (),
    recurrence: Recurrence | None = None,
    compute_dtype: str = "float32",
) -> Network:
    """A multi-layer perceptron. Images first pass through convolutions, and all inputs through the recurrent layer.

    Biases start at 0.

    Args:
        inputs: the width of ``Features.vector``.
        outputs: the number of outputs.
        hidden_sizes: the width of each hidden layer.
        activation: one of ``ACTIVATIONS``, after each hidden layer.
        initialization: one of ``INITIALIZATIONS``.
        output_scale: factor of the last layer's initial weights.
        dropout: the share of each hidden layer's units that is dropped when ``read`` is given a key.
        images: height, width and channels of each of ``Features.images``.
        recurrence: the recurrent layer, if there is one.
        compute_dtype: one of ``COMPUTE_DTYPES``, of the arithmetic; parameters and outputs keep their own.
    """
    mlp = MLP((*hidden_sizes, outputs), activation, initialization, output_scale)
    blank = Features(jnp.zeros((1, inputs)), tuple(jnp.zeros((1, *shape)) for shape in images))
    if recurrence is not None:
        blank = blank._replace(first=jnp.ones(1, bool), memory=jnp.zeros((1, recurrence.memory_size)))
        return _pair(RecurrentMLP(mlp, recurrence), _all_features, blank, dropout, compute_dtype)
    module, inputs_of = (ImageMLP(mlp), _all_features) if images else (mlp, _vector)
    return _pair(module, inputs_of, blank, dropout, compute_dtype)


def are_alike(wide: Any, other: Any) -> bool:
    """Whether two networks with these parameters can be read together: they differ in the number of outputs at most."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (wide, other)]
    if structures[0] != structures[1]:
        return False
    pairs = zip(jax.tree.leaves(wide), jax.tree.leaves(other), strict=True)
    return all(a.shape[1:] == b.shape[1:] and a.shape[0] >= b.shape[0] for a, b in pairs)


def read_together(
    wide: Network, params: tuple[Any, Any], features: tuple[Features, Features], keys: tuple[Any, Any] = (None, None)
) -> tuple[NetworkOutput, NetworkOutput]:
    """What two networks of the same layers read, computed as one network with an axis more.

    Args:
        wide: the network of the first parameters, which has at least as many outputs as the other one.
        params: of both, which ``are_alike``.
        features: for both; they may differ in the memory only.
        keys: for both, as for ``Network.read``.

    Returns:
        Both results; the second one has the outputs of ``wide``, of which only its own are not 0.
    """

    def stack(first: Array, second: Array) -> Array:
        missing = [(0, more - size) for more, size in zip(first.shape, second.shape, strict=True)]
        return jnp.stack([first, jnp.pad(second, missing)])

    def read(params: Any, vector: Array, memory: Any, key: Any) -> NetworkOutput:
        return wide.read(params, features[0]._replace(vector=vector, memory=memory), key)

    # Inputs with the axis too: with one for both, the gradient of the first layer needs a transposed copy.
    stacked = jax.tree.map(stack, *params)
    memory, key = (jax.tree.map(lambda *pair: jnp.stack(pair), *pair) for pair in ([f.memory for f in features], keys))
    both = jax.vmap(read)(stacked, jnp.stack([features[0].vector] * 2), memory, key)
    return jax.tree.map(lambda x: x[0], both), jax.tree.map(lambda x: x[1], both)


def _cast(tree: Any, dtype: Any) -> Any:
    """A tree with another dtype in place of that of its floats."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _all_features(features: Features) -> Features:
    return features


def _vector(features: Features) -> Array:
    return features.vector


def _pair(
    module: linen.Module,
    inputs: Callable[[Features], Any],
    blank: Features,
    dropout: Scalar | None,
    compute_dtype: str,
) -> Network:
    """A module that is called with ``inputs(features)`` as functions of parameters; ``blank`` gives the shapes."""

    def init(key: Array) -> Any:
        return module.init(key, inputs(blank))["params"]

    def read(params: Any, features: Features, key: Array | None = None) -> Any:
        if compute_dtype == "float32":
            return module.apply({"params": params}, inputs(features), dropout, key)
        low_params, low_inputs = _cast((params, inputs(features)), jnp.bfloat16)
        return _cast(module.apply({"params": low_params}, low_inputs, dropout, key), features.vector.dtype)

    return Network(init, read)
