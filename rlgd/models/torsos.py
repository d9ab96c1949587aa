"""The layers of networks, for vectors, images and sequences."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.models.attention import Attention, AttentionLayer, normalized
from rlgd.models.convolutions import convolve
from rlgd.models.initializers import HIDDEN_SCALES, INITIALIZATIONS, Initializer
from rlgd.models.products import Dense
from rlgd.models.recurrent import Recurrence
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

# The networks by name, and what each is.
NETWORKS = {
    "mlp": "dense layers with an activation after each",
    "layer_norm": "the same with layer normalization before each activation (Ba et al. 2016)",
    "simba": "residual blocks with layer normalization, one for each of hidden_sizes (Lee et al. 2024)",
    "flat": "images as plain numbers, without convolutions, then as mlp",
    "impala": "images through residual convolutions (Espeholt et al. 2018), then as mlp",
    "attention": "attention to the last memory_window observations, then as mlp (Vaswani et al. 2017)",
    "rnn": "a recurrent layer of tanh units, then as mlp (Elman 1990)",
    "gru": "gated recurrent units, then as mlp (Cho et al. 2014)",
    "lstm": "long short-term memory, then as mlp (Hochreiter & Schmidhuber 1997)",
    "mingru": "a gated unit that is linear in its memory, three times as fast as gru, then as mlp (Feng et al. 2024)",
    "minlstm": "the same with two gates (Feng et al. 2024)",
    "lru": "complex linear recurrent units, then as mlp (Orvieto et al. 2023)",
}

# Convolutions, each (channels, side of its window, stride): Mnih et al. 2015 for large images, Young & Tian 2019
# (arXiv 1903.03176) for small ones.
LARGE_IMAGE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
SMALL_IMAGE = ((16, 3, 1),)
RESIDUAL_CHANNELS = (16, 32, 32)  # of IMPALA's blocks
LARGE_SIDE = 36  # pixels; nothing would remain of a smaller image after the convolutions for large ones


def convolutions(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """The convolutions for an image of this size, in pixels."""
    return LARGE_IMAGE if min(height, width) >= LARGE_SIDE else SMALL_IMAGE


def convolution_cost(shape: tuple[int, int, int], kind: Any) -> int:
    """How many multiplications the convolutions of one image take, ``shape`` being height, width, channels.

    ``kind`` is the network's name, or the layers of a user, which are taken for those of ``mlp``.
    """
    height, width, channels = shape
    total = 0
    if kind == "flat":
        return 0
    if kind == "impala":
        for outputs in RESIDUAL_CHANNELS:
            total += height * width * outputs * 9 * channels
            height, width, channels = -(-height // 2), -(-width // 2), outputs
            total += 4 * height * width * outputs * 9 * outputs
        return total
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
    """Dense layers with an activation between them; without hidden layers a linear map.

    With ``layer_norm`` each layer is normalized before its activation (Ba et al. 2016, arXiv 1607.06450).
    """

    sizes: tuple[int, ...]
    activation: str
    initialization: str
    output_scale: float
    layer_norm: bool = False

    @linen.compact
    def __call__(self, x: Array, rate: Scalar | None = None, key: Array | None = None) -> NetworkOutput:
        *hidden, outputs = self.sizes
        initializer, scale = INITIALIZATIONS[self.initialization], HIDDEN_SCALES.get(self.initialization, 1.0)
        for layer, size in enumerate(hidden):
            x = Dense(size, kernel_init=initializer(scale))(x)
            x = ACTIVATIONS[self.activation](normalized(x) if self.layer_norm else x)
            if rate is not None and key is not None:
                x = dropped(x, rate, jax.random.fold_in(key, layer))
        return NetworkOutput(OutputLayer(outputs, initializer(self.output_scale))(x), x)


class SimBa(linen.Module):
    """Residual blocks (Lee et al. 2024, arXiv 2410.09754): x + W activation(V norm(x)), V four times as wide.

    A block for each hidden size; all have the same. The paper normalizes observations too: ``normalize_obs``.
    """

    sizes: tuple[int, ...]
    activation: str
    initialization: str
    output_scale: float

    @linen.compact
    def __call__(self, x: Array, rate: Scalar | None = None, key: Array | None = None) -> NetworkOutput:
        *hidden, outputs = self.sizes
        initializer, scale = INITIALIZATIONS[self.initialization], HIDDEN_SCALES.get(self.initialization, 1.0)
        x = Dense(hidden[0], kernel_init=initializer(1.0))(x)
        for block, size in enumerate(hidden):
            inner = Dense(4 * size, kernel_init=initializer(scale))(normalized(x))
            inner = ACTIVATIONS[self.activation](inner)
            if rate is not None and key is not None:
                inner = dropped(inner, rate, jax.random.fold_in(key, block))
            x = x + Dense(size, kernel_init=initializer(1.0))(inner)
        x = normalized(x)
        return NetworkOutput(OutputLayer(outputs, initializer(self.output_scale))(x), x)


class ResidualReader(linen.Module):
    """IMPALA's residual convolutions over ``[..., height, width, channels]``, flattened (Espeholt et al. 2018, arXiv
    1802.01561, figure 3).
    """

    initialization: str

    @linen.compact
    def __call__(self, image: Array, dtype: jnp.dtype) -> Array:
        batch, initializer = image.shape[:-3], INITIALIZATIONS[self.initialization](2**0.5)

        def convolved(x: Array, channels: int) -> Array:
            layer = linen.Conv(channels, (3, 3), padding="SAME", kernel_init=initializer, conv_general_dilated=convolve)
            return layer(x)

        x = _pixels(image, dtype)
        for channels in RESIDUAL_CHANNELS:
            x = linen.max_pool(convolved(x, channels), (3, 3), (2, 2), "SAME")
            for _ in range(2):
                x = x + convolved(jax.nn.relu(convolved(jax.nn.relu(x), channels)), channels)
        return jax.nn.relu(x).reshape(*batch, -1)


def _pixels(image: Array, dtype: jnp.dtype) -> Array:
    """``[..., height, width, channels]`` as ``[N, height, width, channels]``; bytes become numbers from 0 to 1."""
    x = image.reshape(-1, *image.shape[-3:])
    return x.astype(dtype) / 255 if image.dtype == jnp.uint8 else x.astype(dtype)


class ImageReader(linen.Module):
    """Convolutions and rectified linear units over ``[..., height, width, channels]``, flattened."""

    initialization: str

    @linen.compact
    def __call__(self, image: Array, dtype: jnp.dtype) -> Array:
        *batch, height, width, _ = image.shape
        initializer = INITIALIZATIONS[self.initialization](2**0.5)
        x = _pixels(image, dtype)
        for outputs, window, stride in convolutions(height, width):
            size, how = (window, window), "VALID"
            x = linen.Conv(outputs, size, stride, how, kernel_init=initializer, conv_general_dilated=convolve)(x)
            x = jax.nn.relu(x)
        return x.reshape(*batch, -1)


class FlatReader(linen.Module):
    """The numbers of an image ``[..., height, width, channels]`` one after the other."""

    initialization: str

    @linen.compact
    def __call__(self, image: Array, dtype: jnp.dtype) -> Array:
        return _pixels(image, dtype).reshape(*image.shape[:-3], -1)


Reader: TypeAlias = type[ImageReader] | type[ResidualReader] | type[FlatReader]
READERS: dict[str, Reader] = {"flat": FlatReader, "impala": ResidualReader}  # of the networks that have their own


class ImageMLP(linen.Module):
    """Each image through convolutions of its own, or flat; this and the other numbers through dense layers."""

    mlp: MLP | SimBa
    kind: str

    @linen.compact
    def __call__(self, features: Features, rate: Scalar | None = None, key: Array | None = None) -> NetworkOutput:
        return self.mlp(_read(features, READERS.get(self.kind, ImageReader), self.mlp.initialization), rate, key)


class RecurrentMLP(linen.Module):
    """Numbers, and the outputs of convolutions, through a layer with a memory and then through an ``MLP``."""

    mlp: MLP
    recurrence: Recurrence | Attention

    @linen.compact
    def __call__(self, features: Features, rate: Scalar | None = None, key: Array | None = None) -> NetworkOutput:
        x = _read(features, ImageReader, self.mlp.initialization)
        assert features.first is not None
        if isinstance(self.recurrence, Recurrence):
            layer: Any = self.recurrence.layer(self.mlp.initialization)
            x, memory = layer(x, features.first, features.memory)
        else:
            x, memory = AttentionLayer(self.recurrence, self.mlp.initialization)(x, features.first, features.memory)
        return self.mlp(x, rate, key)._replace(memory=memory)


def _read(features: Features, reader: Reader, initialization: str) -> Array:
    """The numbers of features, and what is read of their images, side by side."""
    read = [reader(initialization)(image, features.vector.dtype) for image in features.images]
    return jnp.concatenate([features.vector, *read], axis=-1)


def dropped(x: Array, rate: Scalar, key: Array) -> Array:
    """``x`` with a share ``rate`` of its values set to 0 and the others divided by 1 - rate: the mean is the same
    (Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting").
    """
    # linen's Dropout branches on the rate, which may be traced here.
    keep = 1 - jnp.asarray(rate, jax.dtypes.canonicalize_dtype(float))
    return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep.astype(x.dtype), 0)
