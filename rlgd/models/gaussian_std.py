"""Where the standard deviation of Gaussian actions comes from: parameters, the network's outputs, or gSDE."""

from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax import Array

LOG_STD_RANGE = (-10.0, 2.0)
LEAST_VARIANCE = 1e-6  # of gSDE's actions, where all hidden units are near 0


class Std(Protocol):
    """Where the log standard deviation of a Gaussian comes from.

    Attributes:
        outputs: how many outputs of the network it takes for each action, beside the mean.
    """

    outputs: ClassVar[int]

    def log_std(self, parameters: Array, mean: Array, outputs: Array, hidden: Array | None) -> Array:
        """``[..., d]`` for ``mean [..., d]``, from parameters ``[d]`` or ``[width, d]``, outputs and hidden layer."""


class FreeStd:
    """Parameters of their own, the same for all observations."""

    outputs: ClassVar[int] = 0

    def log_std(self, parameters: Array, mean: Array, outputs: Array, hidden: Array | None) -> Array:
        return jnp.clip(jnp.broadcast_to(parameters, mean.shape), *LOG_STD_RANGE)


class StateStd:
    """The network's outputs, added to parameters of their own."""

    outputs: ClassVar[int] = 1

    def log_std(self, parameters: Array, mean: Array, outputs: Array, hidden: Array | None) -> Array:
        return jnp.clip(jnp.broadcast_to(parameters, mean.shape) + outputs, *LOG_STD_RANGE)


class ExploredStd:
    """Generalized state-dependent exploration (gSDE: Raffin, Kober & Stulp 2021, arXiv 2005.05719).

    The noise is a linear function of the last hidden layer.
    """

    outputs: ClassVar[int] = 0

    def log_std(self, parameters: Array, mean: Array, outputs: Array, hidden: Array | None) -> Array:
        assert hidden is not None
        return explored_log_std(parameters, hidden)


STDS: dict[str, Std] = {"free": FreeStd(), "state": StateStd(), "gsde": ExploredStd()}


def explored_log_std(log_std: Array, hidden: Array) -> Array:
    """The log standard deviation ``[..., d]`` of ``gsde_deviation``, for ``log_std [width, d]``.

    No gradient flows into ``hidden [..., width]``: only the mean trains the hidden layers.
    """
    variance = jnp.square(jax.lax.stop_gradient(hidden)) @ jnp.square(_explored_std(log_std))
    return 0.5 * jnp.log(variance + LEAST_VARIANCE)


def gsde_deviation(log_std: Array, hidden: Array, noise: Array) -> Array:
    """The deviation of gSDE from the mean, ``[N, d]``: ``hidden [N, width]`` times ``noise [N, width, d]``, unit normal
    numbers, times their standard deviations exp(``log_std [width, d]``).
    """
    return jnp.sum(hidden[..., None] * noise * _explored_std(log_std)[None], axis=-2)


def _explored_std(log_std: Array) -> Array:
    return jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))
