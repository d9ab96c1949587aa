"""Networks as pairs of pure functions. The only module that imports flax."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.data import Features, Scalar

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
}

Initializer = Callable[..., Array]


def orthogonal(scale: float) -> Initializer:
    """Orthogonal matrices, uniformly distributed, times ``scale`` (Saxe, McClelland & Ganguli 2014, arXiv 1312.6120).

    A product of random Householder reflections (Stewart 1980) rather than a QR factorization: several of those,
    batched, make XLA hang on the CPU.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        rows, columns = math.prod(shape[:-1]), shape[-1]  # a convolution reads its window as one row
        size, rank = max(rows, columns), min(rows, columns)
        normal = jax.random.normal(key, (rank, size), dtype)

        def reflect(index: Array, q: Array) -> Array:
            # The vector that is reflected lives in the coordinates from ``rank - 1 - index`` on.
            first = rank - 1 - index
            x = jnp.where(jnp.arange(size) >= first, normal[first], 0)
            sign = jnp.where(x[first] >= 0, 1, -1).astype(dtype)
            v = x + jnp.where(jnp.arange(size) == first, sign * jnp.linalg.norm(x), 0)
            v = v / jnp.linalg.norm(v)
            reflected = q - 2 * jnp.outer(v, v @ q)
            # The sign makes the factor's diagonal positive, without which the product is not uniform.
            return reflected * jnp.where(jnp.arange(rank) == first, -sign, 1)[None]

        q = jax.lax.fori_loop(0, rank, reflect, jnp.eye(size, rank, dtype=dtype))
        return scale * (q if rows >= columns else q.T).reshape(shape)

    return init


def glorot(scale: float) -> Initializer:
    """Uniform with variance scale^2 / mean of inputs and outputs (Glorot & Bengio 2010)."""
    return jax.nn.initializers.variance_scaling(scale**2, "fan_avg", "uniform")


INITIALIZATIONS: dict[str, Callable[[float], Initializer]] = {
    "orthogonal": orthogonal,
    "glorot": glorot,
    "xavier": glorot,  # Xavier Glorot: known by both names
    "he": lambda scale: jax.nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal"),
    "lecun": lambda scale: jax.nn.initializers.variance_scaling(scale**2, "fan_in", "uniform"),
}

# What the hidden layers' weights are multiplied by, where it is not 1; the last layer's scale is its caller's.
HIDDEN_SCALES = {"orthogonal": 2**0.5, "he": 2**0.5}


# Convolutions, each (channels, side of its window, stride): Mnih et al. 2015 for large images, Young & Tian 2019
# (arXiv 1903.03176) for small ones.
LARGE_IMAGE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
SMALL_IMAGE = ((16, 3, 1),)
LARGE_SIDE = 36  # pixels; what is left of less behind the convolutions for large images is nothing


def convolutions(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """The convolutions that read an image of so many pixels."""
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


class Network(NamedTuple):
    """``init(key) -> params`` and ``apply(params, features, key=None) -> [..., outputs]``.

    With a key, units are dropped at random where the network was made with ``dropout``; without, none ever is.
    """

    init: Callable[[Array], Any]
    apply: Callable[..., Array]


class OutputLayer(linen.Module):
    """``kernel x + bias`` with ``kernel [outputs, inputs]``, the transpose of what ``linen.Dense`` keeps.

    With a handful of outputs the kernel's gradient is then a product with few rows instead of few columns, which
    is faster on the CPU.
    """

    outputs: int
    kernel_init: Initializer

    @linen.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", lambda key: self.kernel_init(key, (x.shape[-1], self.outputs)).T)
        bias = self.param("bias", jax.nn.initializers.zeros, (self.outputs,))
        return x @ kernel.T + jnp.broadcast_to(bias, (*x.shape[:-1], self.outputs))


class MLP(linen.Module):
    """Dense layers with an activation between them; no hidden layer makes a linear map."""

    sizes: tuple[int, ...]
    activation: str
    initialization: str
    output_scale: float

    @linen.compact
    def __call__(self, x: Array, rate: Scalar | None = None, key: Array | None = None) -> Array:
        *hidden, outputs = self.sizes
        initializer, scale = INITIALIZATIONS[self.initialization], HIDDEN_SCALES.get(self.initialization, 1.0)
        for layer, size in enumerate(hidden):
            x = ACTIVATIONS[self.activation](linen.Dense(size, kernel_init=initializer(scale))(x))
            if rate is not None and key is not None:
                x = dropped(x, rate, jax.random.fold_in(key, layer))
        return OutputLayer(outputs, initializer(self.output_scale))(x)


class ImageReader(linen.Module):
    """Convolutions and rectified linear units over ``[..., height, width, channels]``, flattened."""

    initialization: str

    @linen.compact
    def __call__(self, image: Array) -> Array:
        *batch, height, width, channels = image.shape
        initializer = INITIALIZATIONS[self.initialization](2**0.5)
        x = image.reshape(-1, height, width, channels)
        dtype = jax.dtypes.canonicalize_dtype(float)
        x = x.astype(dtype) / 255 if image.dtype == jnp.uint8 else x.astype(dtype)
        for outputs, window, stride in convolutions(height, width):
            x = jax.nn.relu(linen.Conv(outputs, (window, window), stride, "VALID", kernel_init=initializer)(x))
        return x.reshape(*batch, -1)


class ImageMLP(linen.Module):
    """Images through convolutions of their own; what these make of them and the other numbers through an ``MLP``."""

    mlp: MLP

    @linen.compact
    def __call__(
        self, vector: Array, images: tuple[Array, ...], rate: Scalar | None = None, key: Array | None = None
    ) -> Array:
        read = [ImageReader(self.mlp.initialization)(image) for image in images]
        return self.mlp(jnp.concatenate([vector, *read], axis=-1), rate, key)


def dropped(x: Array, rate: Scalar, key: Array) -> Array:
    """``x`` with a share ``rate`` of its values at 0 and the others larger by 1 / (1 - rate): the same on average
    (Srivastava et al. 2014).
    """
    keep = 1 - jnp.asarray(rate, x.dtype)  # linen's Dropout branches on the rate, which may be traced here
    return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0)


def network(
    inputs: int,
    outputs: int,
    hidden_sizes: tuple[int, ...] = (64, 64),
    activation: str = "tanh",
    initialization: str = "orthogonal",
    output_scale: float = 1.0,
    dropout: Scalar | None = None,
    images: tuple[tuple[int, int, int], ...] = (),
) -> Network:
    """A multi-layer perceptron, behind convolutions where there are images.

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
    """
    mlp = MLP((*hidden_sizes, outputs), activation, initialization, output_scale)
    if not images:

        def apply(params: Any, features: Features, key: Array | None = None) -> Any:
            return mlp.apply({"params": params}, features.vector, dropout, key)

        return Network(lambda key: mlp.init(key, jnp.zeros((1, inputs)))["params"], apply)

    module = ImageMLP(mlp)
    blank = tuple(jnp.zeros((1, *shape)) for shape in images)

    def apply_to_images(params: Any, features: Features, key: Array | None = None) -> Any:
        return module.apply({"params": params}, features.vector, features.images, dropout, key)

    return Network(lambda key: module.init(key, jnp.zeros((1, inputs)), blank)["params"], apply_to_images)
