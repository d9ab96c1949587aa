"""The layers of networks, for vectors, images and sequences."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.models.initializers import HIDDEN_SCALES, INITIALIZATIONS, Initializer
from rlgd.models.recurrent import Recurrence, RecurrentLayer
from rlgd.pytrees import Features, Scalar

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
}


# Convolutions, each (channels, side of its window, stride): Mnih et al. 2015 for large images, Young & Tian 2019
# (arXiv 1903.03176) for small ones.
LARGE_IMAGE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
SMALL_IMAGE = ((16, 3, 1),)
LARGE_SIDE = 36  # pixels; nothing would remain of a smaller image after the convolutions for large ones


def convolutions(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """The convolutions for an image of this size, in pixels."""
    return LARGE_IMAGE if min(height, width) >= LARGE_SIDE else SMALL_IMAGE


def convolution_cost(shape: tuple[int, int, int]) -> int:
    """How many multiplications the convolutions of one image take, ``shape`` being height, width, channels."""
    height, width, channels = shape
    total = 0
    for outputs, window, stride in convolutions(height, width):
        height, width = ((side - window) // stride + 1 for side in (height, width))
        total += height * width * outputs * window**2 * channels
        channels = outputs
    return total


class NetworkOutput(NamedTuple):
    """The result of a network.

    Attributes:
        outputs: ``[..., outputs]``.
        hidden: ``[..., width]``, the last hidden layer; without hidden layers, the inputs.
        memory: ``[..., size]``, the memory after each step; None without a recurrent layer.
    """

    outputs: Array
    hidden: Array
    memory: Array | None = None


class OutputLayer(linen.Module):
    """``kernel x + bias`` with ``kernel [outputs, inputs]``, the transpose of the kernel of ``linen.Dense``.

    With few outputs the kernel's gradient is then a product with few rows instead of few columns, which is faster on
    the CPU.
    """

    outputs: int
    kernel_init: Initializer

    @linen.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", lambda key: self.kernel_init(key, (x.shape[-1], self.outputs)).T)
        bias = self.param("bias", jax.nn.initializers.zeros, (self.outputs,))
        return x @ kernel.T + jnp.broadcast_to(bias, (*x.shape[:-1], self.outputs))


class MLP(linen.Module):
    """Dense layers with an activation between them; without hidden layers a linear map."""

    sizes: tuple[int, ...]
    activation: str
    initialization: str
    output_scale: float

    @linen.compact
    def __call__(self, x: Array, rate: Scalar | None = None, key: Array | None = None) -> NetworkOutput:
        *hidden, outputs = self.sizes
        initializer, scale = INITIALIZATIONS[self.initialization], HIDDEN_SCALES.get(self.initialization, 1.0)
        for layer, size in enumerate(hidden):
            x = ACTIVATIONS[self.activation](linen.Dense(size, kernel_init=initializer(scale))(x))
            if rate is not None and key is not None:
                x = dropped(x, rate, jax.random.fold_in(key, layer))
        return NetworkOutput(OutputLayer(outputs, initializer(self.output_scale))(x), x)


class ImageReader(linen.Module):
    """Convolutions and rectified linear units over ``[..., height, width, channels]``, flattened."""

    initialization: str

    @linen.compact
    def __call__(self, image: Array, dtype: jnp.dtype) -> Array:
        *batch, height, width, channels = image.shape
        initializer = INITIALIZATIONS[self.initialization](2**0.5)
        x = image.reshape(-1, height, width, channels)
        x = x.astype(dtype) / 255 if image.dtype == jnp.uint8 else x.astype(dtype)
        for outputs, window, stride in convolutions(height, width):
            x = jax.nn.relu(linen.Conv(outputs, (window, window), stride, "VALID", kernel_init=initializer)(x))
        return x.reshape(*batch, -1)


class ImageMLP(linen.Module):
    """Each image through convolutions of its own; their outputs and the other numbers through an ``MLP``."""

    mlp: MLP

    @linen.compact
    def __call__(self, features: Features, rate: Scalar | None = None, key: Array | None = None) -> NetworkOutput:
        read = [ImageReader(self.mlp.initialization)(image, features.vector.dtype) for image in features.images]
        return self.mlp(jnp.concatenate([features.vector, *read], axis=-1), rate, key)


class RecurrentMLP(linen.Module):
    """Numbers, and the outputs of convolutions, through a recurrent layer and then an ``MLP``."""

    mlp: MLP
    recurrence: Recurrence

    @linen.compact
    def __call__(self, features: Features, rate: Scalar | None = None, key: Array | None = None) -> NetworkOutput:
        read = [ImageReader(self.mlp.initialization)(image, features.vector.dtype) for image in features.images]
        x = jnp.concatenate([features.vector, *read], axis=-1)
        assert features.first is not None
        x, memory = RecurrentLayer(self.recurrence, self.mlp.initialization)(x, features.first, features.memory)
        return self.mlp(x, rate, key)._replace(memory=memory)


def dropped(x: Array, rate: Scalar, key: Array) -> Array:
    """``x`` with a share ``rate`` of its values set to 0 and the others divided by 1 - rate: the mean is the same
    (Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting").
    """
    # linen's Dropout branches on the rate, which may be traced here.
    keep = 1 - jnp.asarray(rate, jax.dtypes.canonicalize_dtype(float))
    return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep.astype(x.dtype), 0)
