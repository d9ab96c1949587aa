"""Networks as pairs of pure functions. The only module that imports flax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.models.recurrent import Recurrence
from rlgd.models.torsos import MLP, ImageMLP, NetworkOutput, RecurrentMLP
from rlgd.pytrees import Features, Scalar


class Network(NamedTuple):
    """``init(key) -> params``, ``read(params, features, key=None) -> NetworkOutput`` and ``apply``: its outputs alone.

    With a key, units are dropped at random where the network was made with ``dropout``; without, none ever is.
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
) -> Network:
    """A multi-layer perceptron, behind convolutions where there are images, and behind a recurrent layer if it has one.

    Biases start at 0, the last layer's weights are scaled by ``output_scale``.

    Args:
        inputs: the width of ``Features.vector``.
        outputs: how many numbers it puts out.
        hidden_sizes: the width of each hidden layer.
        activation: one of ``ACTIVATIONS``, behind each hidden layer.
        initialization: one of ``INITIALIZATIONS``.
        output_scale: of the last layer's weights.
        dropout: the share of each hidden layer's units that are dropped where ``apply`` is given a key.
        images: height, width and channels of each of ``Features.images``.
        recurrence: the recurrent layer, if there is one.
    """
    mlp = MLP((*hidden_sizes, outputs), activation, initialization, output_scale)
    blank = Features(jnp.zeros((1, inputs)), tuple(jnp.zeros((1, *shape)) for shape in images))
    module: linen.Module
    if recurrence is not None:
        module = RecurrentMLP(mlp, recurrence)
        blank = blank._replace(first=jnp.ones(1, bool), memory=jnp.zeros((1, recurrence.memory_size)))
    elif images:
        module = ImageMLP(mlp)
    else:
        module = mlp

    def arguments(features: Features) -> tuple[Any, ...]:
        if recurrence is not None:
            return (features,)
        return (features.vector, features.images) if images else (features.vector,)

    def read(params: Any, features: Features, key: Array | None = None) -> Any:
        return module.apply({"params": params}, *arguments(features), dropout, key)

    return Network(lambda key: module.init(key, *arguments(blank))["params"], read)
