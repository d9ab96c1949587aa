"""Convolutions for networks that learn, laid out for the processor."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.models.products import matmul
from rlgd.system.layout import layout

AXES = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # of images, windows and results, as JAX writes them


def convolve(x: Array, kernel: Array, window_strides: Any, padding: Any, **options: Any) -> Array:
    """The convolution of images with windows, for ``linen.Conv(..., conv_general_dilated=convolve)``.

    XLA's CPU compiler takes the slowest way, some twenty times slower, for the gradient of a convolution in a loop
    (https://github.com/jax-ml/jax/issues/12868), and all that learns is in one. So there it is a product of matrices,
    and so is its gradient: all windows, each a row, times the kernel. Windows that are not square, have gaps or groups,
    or move further in one direction than in the other are left to XLA.

    Args:
        x: ``[N, height, width, channels]``.
        kernel: ``[side, side, channels, outputs]``.
        window_strides, padding: those of ``jax.lax.conv_general_dilated``.
        **options: the others of it.

    Returns:
        ``[N, rows, columns, outputs]``.
    """
    if layout().convolves or not _is_plain(x, kernel, window_strides, **options):
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)
    side, stride = kernel.shape[0], window_strides[0]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], window_strides, padding)
    edges = [(0, 0, 0), *((before, after, 0) for before, after in padding), (0, 0, 0)]  # also negative ones
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), edges)
    rows, columns = ((length - side) // stride + 1 for length in x.shape[1:3])
    spans = -(-side // stride)  # blocks that a window spans in each direction
    blocks = _image_in_blocks(x, stride, rows + spans - 1, columns + spans - 1)
    windows = [blocks[:, i : i + rows, j : j + columns] for i in range(spans) for j in range(spans)]
    matrix = _kernel_in_blocks(kernel, stride, spans).reshape(-1, kernel.shape[-1])
    # Joined while the rows of a block have an axis: XLA writes them in one go then, many numbers at a time.
    rows_of_windows = jnp.concatenate(windows, -2)
    return matmul(rows_of_windows.reshape(*rows_of_windows.shape[:3], -1), matrix)


def _is_plain(
    x: Array,
    kernel: Array,
    window_strides: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    **_: Any,
) -> bool:
    """Whether square windows without gaps move over images with the axes of ``convolve``."""
    if x.ndim != 4 or kernel.shape[0] != kernel.shape[1] or len(set(window_strides)) > 1:
        return False
    axes = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    dilations = (*(lhs_dilation or ()), *(rhs_dilation or ()))
    groups = feature_group_count, batch_group_count
    return tuple(axes) == AXES and set(dilations) <= {1} and groups == (1, 1)


def _image_in_blocks(x: Array, side: int, rows: int, columns: int) -> Array:
    """``[N, height, width, channels]`` cut to blocks, ``[N, rows, columns, side, side * channels]``.

    In them a window that moves by ``side`` pixels moves by one. What is missing at the end is 0.
    """
    height, width = rows * side, columns * side
    x = x[:, :height, :width]
    x = jnp.pad(x, ((0, 0), (0, height - x.shape[1]), (0, width - x.shape[2]), (0, 0)))
    cut = x.reshape(x.shape[0], rows, side, columns, side, x.shape[3])
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], rows, columns, side, -1)


def _kernel_in_blocks(kernel: Array, side: int, windows: int) -> Array:
    """``[side of the kernel, same, channels, outputs]`` as ``[windows, windows, side * side * channels, outputs]``."""
    missing = windows * side - kernel.shape[0]
    kernel = jnp.pad(kernel, ((0, missing), (0, missing), (0, 0), (0, 0)))
    cut = kernel.reshape(windows, side, windows, side, *kernel.shape[2:])
    return cut.transpose(0, 2, 1, 3, 4, 5).reshape(windows, windows, -1, kernel.shape[-1])
