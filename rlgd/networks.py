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


class Read(NamedTuple):
    """What a network makes of features.

    Attributes:
        outputs: ``[..., outputs]``.
        hidden: ``[..., width]``, the last hidden layer; the inputs of a linear map.
        memory: ``[..., size]``, what is remembered behind each step; None without a memory.
    """

    outputs: Array
    hidden: Array
    memory: Array | None = None


class Network(NamedTuple):
    """``init(key) -> params``, ``read(params, features, key=None) -> Read`` and ``apply``, which is its outputs alone.

    With a key, units are dropped at random where the network was made with ``dropout``; without, none ever is.
    """

    init: Callable[[Array], Any]
    read: Callable[..., Read]

    def apply(self, params: Any, features: Features, key: Array | None = None) -> Array:
        """``[..., outputs]``."""
        return self.read(params, features, key).outputs


class Recurrence(NamedTuple):
    """A recurrent layer: its kind, one of ``CELLS``, and its width."""

    kind: str
    width: int

    @property
    def memory_size(self) -> int:
        """How many numbers it remembers of each environment."""
        return self.width * (2 if self.kind == "lstm" else 1)

    def cost(self, inputs: int) -> int:
        """How many multiplications a step of so many inputs takes."""
        return CELLS[self.kind][1] * self.width * (inputs + self.width)


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
    def __call__(self, x: Array, rate: Scalar | None = None, key: Array | None = None) -> Read:
        *hidden, outputs = self.sizes
        initializer, scale = INITIALIZATIONS[self.initialization], HIDDEN_SCALES.get(self.initialization, 1.0)
        for layer, size in enumerate(hidden):
            x = ACTIVATIONS[self.activation](linen.Dense(size, kernel_init=initializer(scale))(x))
            if rate is not None and key is not None:
                x = dropped(x, rate, jax.random.fold_in(key, layer))
        return Read(OutputLayer(outputs, initializer(self.output_scale))(x), x)


def rnn(memory: Array, inputs: Array, recurrent: Callable[[Array], Array]) -> tuple[Array, Array]:
    """A tanh layer: h' = tanh(W x + U h) (Elman 1990). Returns the new memory and its part that is read on."""
    hidden = jnp.tanh(inputs + recurrent(memory))
    return hidden, hidden


def gru(memory: Array, inputs: Array, recurrent: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Gates r, z = sigmoid(W x + U h); n = tanh(W x + r U h); h' = (1 - z) n + z h (Cho et al. 2014)."""
    (r, z, n), (r_h, z_h, n_h) = (jnp.split(x, 3, axis=-1) for x in (inputs, recurrent(memory)))
    r, z = jax.nn.sigmoid(r + r_h), jax.nn.sigmoid(z + z_h)
    hidden = (1 - z) * jnp.tanh(n + r * n_h) + z * memory
    return hidden, hidden


def lstm(memory: Array, inputs: Array, recurrent: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Gates i, f, o = sigmoid(W x + U h); g = tanh(W x + U h); c' = f c + i g; h' = o tanh(c').

    Hochreiter & Schmidhuber 1997, with a forget gate that is open at first (Jozefowicz et al. 2015).
    """
    hidden, cell = jnp.split(memory, 2, axis=-1)
    i, f, o, g = jnp.split(inputs + recurrent(hidden), 4, axis=-1)
    cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return jnp.concatenate([hidden, cell], axis=-1), hidden


# Each with the number of matrices that it has of either kind.
CELLS: dict[str, tuple[Callable[..., tuple[Array, Array]], int]] = {"rnn": (rnn, 1), "gru": (gru, 3), "lstm": (lstm, 4)}


class RecurrentLayer(linen.Module):
    """One of ``CELLS`` along sequences; at the beginning of an episode the memory before it is 0."""

    recurrence: Recurrence
    initialization: str

    @linen.compact
    def __call__(self, x: Array, first: Array, memory: Array) -> tuple[Array, Array]:
        """``x [N, T, d]``, ``first [N, T]``, ``memory [N, size]`` to what is read on ``[N, T, width]`` and what is
        remembered ``[N, T, size]``; or one step, all without T.
        """
        cell, matrices = CELLS[self.recurrence.kind]
        width, initializer = self.recurrence.width, INITIALIZATIONS[self.initialization](1.0)

        def square_ones(key: Array) -> Array:
            keys = jax.random.split(key, matrices)
            return jnp.concatenate([initializer(key, (width, width)) for key in keys], axis=-1)

        inputs = linen.Dense(matrices * width, kernel_init=initializer)(x)  # of all steps at once
        kernel = self.param("recurrent_kernel", square_ones)

        def step(memory: Array, row: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            inputs, first = row
            memory, hidden = cell(jnp.where(first[:, None], 0, memory), inputs, lambda h: h @ kernel)
            return memory, (hidden, memory)

        if first.ndim == 1:
            return step(memory, (inputs, first))[1]
        by_time = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (inputs, first))
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), jax.lax.scan(step, memory, by_time)[1])


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
    ) -> Read:
        read = [ImageReader(self.mlp.initialization)(image) for image in images]
        return self.mlp(jnp.concatenate([vector, *read], axis=-1), rate, key)


class RecurrentMLP(linen.Module):
    """Numbers, and what convolutions make of images, through a recurrent layer and then an ``MLP``."""

    mlp: MLP
    recurrence: Recurrence

    @linen.compact
    def __call__(self, features: Features, rate: Scalar | None = None, key: Array | None = None) -> Read:
        read = [ImageReader(self.mlp.initialization)(image) for image in features.images]
        x = jnp.concatenate([features.vector, *read], axis=-1)
        assert features.first is not None
        x, memory = RecurrentLayer(self.recurrence, self.mlp.initialization)(x, features.first, features.memory)
        return self.mlp(x, rate, key)._replace(memory=memory)


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
