"""How the programs of training are laid out for a processor: the one place that knows what each kind likes."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import jax

from rlgd.system.mesh import num_devices


class Layout(NamedTuple):
    """What computes the same, as fast as the processor allows.

    A CPU wants few bytes at a time, which fit its cache. A GPU wants few kernels: each takes some microseconds to
    launch, whatever it computes.

    Attributes:
        block_rows: at most this many rows are learned from at a time; None: all rows of a batch.
        block_pixels: nor more rows than have this many numbers in their images, which layers cut to windows; None: any.
        beside_rows: a long sum over rows is made of sums over blocks of at least this many, all at a time; None: it is
            not. A GPU cuts long sums anyway, and then adds up the parts of each array in a kernel of its own.
        unroll: steps of the environments in one turn of a rollout's loop.
        doubling: whether linear recurrences, such as returns, take log2(T) passes over all rows instead of T steps.
        joins_params: whether the steps of an iteration keep all parameters of a network in one array.
        joins_networks: whether policy and value function are computed as one network with an axis more.
        convolves: whether images go through convolutions; else through products of matrices, which give the same.
        transposes: whether the gradient of a layer's matrix is laid out by ``rlgd.models.products``.
    """

    block_rows: int | None
    block_pixels: int | None
    beside_rows: int | None
    unroll: int
    doubling: bool
    joins_params: bool
    joins_networks: bool
    convolves: bool
    transposes: bool


CPU = Layout(
    block_rows=1024,
    block_pixels=2**20,
    beside_rows=None,
    unroll=1,
    doubling=False,
    joins_params=False,
    joins_networks=False,
    convolves=False,
    transposes=True,
)
ACCELERATOR = Layout(
    block_rows=None,
    block_pixels=None,
    beside_rows=256,
    unroll=8,
    doubling=True,
    joins_params=True,
    joins_networks=True,
    convolves=True,
    transposes=False,
)
PORTABLE = CPU._replace(convolves=True, transposes=False)  # of a policy that other programs read

_asked: ContextVar[Layout | None] = ContextVar("layout", default=None)


def layout() -> Layout:
    """That of JAX's default backend; several devices neither cut rows nor join axes, so that each keeps its share."""
    if (asked := _asked.get()) is not None:
        return asked
    one = CPU if jax.default_backend() == "cpu" else ACCELERATOR
    if num_devices() == 1:
        return one
    return one._replace(block_rows=None, block_pixels=None, beside_rows=None, transposes=False)


@contextlib.contextmanager
def laid_out(as_layout: Layout) -> Iterator[None]:
    """What is traced inside has this layout, whatever the processor."""
    token = _asked.set(as_layout)
    try:
        yield
    finally:
        _asked.reset(token)
