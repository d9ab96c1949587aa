"""Attention over a window of past observations: a memory that holds what was seen, and no more than the window."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.models.initializers import INITIALIZATIONS
from rlgd.models.products import Dense


class Attention(NamedTuple):
    """A layer of attention: its width, and the number of steps that it sees, the present one included."""

    width: int
    window: int

    @property
    def memory_size(self) -> int:
        """The numbers that are kept of each environment: earlier steps, and whether they are of this episode."""
        return (self.window - 1) * (self.width + 1)

    @property
    def heads(self) -> int:
        """The number of heads, which divides the width."""
        return next(heads for heads in (4, 2, 1) if self.width % heads == 0)

    def cost(self, inputs: int) -> int:
        """The number of multiplications in a step with this many inputs."""
        return self.width * (inputs + 4 * self.width + 2 * self.window)


def normalized(x: Array) -> Array:
    """``x`` through a new ``linen.LayerNorm`` of the module that calls this."""
    with jax.numpy_dtype_promotion("standard"):  # its means are float32 among bfloat16
        return linen.LayerNorm()(x)


class AttentionLayer(linen.Module):
    """Multi-head attention of each step to the last steps of its episode (Vaswani et al. 2017, arXiv 1706.03762).

    What a step sees of an earlier one is its embedding, to which the layer adds how long ago it was.
    """

    attention: Attention
    initialization: str

    @linen.compact
    def __call__(self, x: Array, first: Array, memory: Array) -> tuple[Array, Array]:
        """``x [N, T, d]``, ``first [N, T]`` and ``memory [N, size]`` to outputs ``[N, T, width]`` and the memory after
        each step, ``[N, T, size]``; or a single step, all without T.
        """
        if first.ndim == 1:
            outputs, after = self(x[:, None], first[:, None], memory)
            return outputs[:, 0], after[:, 0]
        (width, window), heads = self.attention, self.attention.heads
        earlier, (num_envs, steps) = window - 1, first.shape
        initializer = INITIALIZATIONS[self.initialization](1.0)
        embedded = Dense(width, kernel_init=initializer, name="embedding")(x)
        past = memory.reshape(num_envs, earlier, width + 1)
        seen = jnp.concatenate([past[..., :width].astype(embedded.dtype), embedded], axis=1)
        # The number of each step's episode, counted from the one that the memory is of; -1 where nothing was seen.
        episode = jnp.cumsum(first, axis=1)
        episodes = jnp.concatenate([jnp.where(past[..., width] > 0, 0, -1), episode], axis=1)
        places = jnp.arange(steps)[:, None] + jnp.arange(window)[None]  # of the window's steps, oldest first
        visible = episodes[:, places] == episode[..., None]

        def projected(name: str, inputs: Array, use_bias: bool = True) -> Array:
            return Dense(width, use_bias, kernel_init=initializer, name=name)(inputs)

        ages = self.param("ages", jax.nn.initializers.normal(0.02), (window, width)).astype(embedded.dtype)
        # A bias of the keys would add the same to all scores of a step, which changes no weight.
        keys = projected("keys", seen, use_bias=False)[:, places] + ages[None, None]
        values = projected("values", seen)[:, places]

        def split(x: Array) -> Array:
            return x.reshape(*x.shape[:-1], heads, width // heads)

        scores = jnp.einsum("nthc,ntwhc->nthw", split(projected("queries", embedded)), split(keys))
        scores = jnp.where(visible[:, :, None], scores * (width // heads) ** -0.5, -jnp.inf)
        read = jnp.einsum("nthw,ntwhc->nthc", jax.nn.softmax(scores), split(values)).reshape(embedded.shape)
        outputs = normalized(embedded + projected("outputs", read))
        kept = visible[:, :, 1:, None].astype(memory.dtype)
        after = jnp.concatenate([seen[:, places[:, 1:]].astype(memory.dtype) * kept, kept], axis=-1)
        return outputs, after.reshape(num_envs, steps, -1)
