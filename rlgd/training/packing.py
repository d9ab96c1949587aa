"""Arrays side by side in one array of bytes: one transfer between host and device instead of one for each array."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

ALIGNMENT = 8  # bytes; of the largest number


class Packing(NamedTuple):
    """Where each array lies.

    Attributes:
        kinds: shape and dtype of each array; any numbers and bool.
    """

    kinds: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]

    @staticmethod
    def of(arrays: Sequence[Any]) -> "Packing":
        """For arrays like these, which may be abstract."""
        return Packing(tuple((tuple(array.shape), np.dtype(array.dtype)) for array in arrays))

    @property
    def _places(self) -> list[tuple[slice, tuple[int, ...], np.dtype[Any]]]:
        """For each array its bytes, its shape and its dtype."""
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in self.kinds]
        starts = itertools.accumulate((_room(size) for size in sizes), initial=0)
        return [
            (slice(start, start + size), *kind) for start, size, kind in zip(starts, sizes, self.kinds, strict=False)
        ]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(_room(math.prod(shape) * dtype.itemsize) for shape, dtype in self.kinds)

    def views(self, packed: np.ndarray) -> list[np.ndarray]:
        """The arrays of ``packed [size]``, uint8, on the host: views, so that what is written to them is packed."""
        return [packed[place].view(dtype).reshape(shape) for place, shape, dtype in self._places]

    def unpacked(self, packed: Array) -> list[Array]:
        """The arrays of ``packed [size]``, uint8, in a compiled program."""

        def unpack(part: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
            if dtype.kind == "b":
                return part.reshape(shape) != 0
            numbers = part if dtype.itemsize == 1 else part.reshape(-1, dtype.itemsize)
            return jax.lax.bitcast_convert_type(numbers, dtype).reshape(shape)

        return [unpack(packed[place], shape, dtype) for place, shape, dtype in self._places]

    def packed(self, arrays: Sequence[Array]) -> Array:
        """``[size]`` uint8 of arrays like those that were given to ``of``, in a compiled program."""

        def pack(array: Array) -> Array:
            number = array.astype(jnp.uint8) if array.dtype.kind == "b" else array
            part = jax.lax.bitcast_convert_type(number, jnp.uint8).reshape(-1)
            return jnp.pad(part, (0, _room(part.size) - part.size))

        return jnp.concatenate([jnp.zeros(0, jnp.uint8), *map(pack, arrays)])


def _room(size: int) -> int:
    """Bytes of an array's place, so that the next one is aligned."""
    return -(-size // ALIGNMENT) * ALIGNMENT
