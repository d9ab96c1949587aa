"""Whether the layers of a user do what training relies on: ``rlgd.models.check``."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.errors import UsageError
from rlgd.models import own
from rlgd.models.features import image_shapes, num_features
from rlgd.models.networks import Network, network
from rlgd.pytrees import Features

ROWS, STEPS, OUTPUTS = 4, 6, 3  # of the trial
TOLERANCE = 1e-4  # between two ways to compile the same arithmetic
INIT, DATA, MEMORY = range(3)  # purposes of the random keys


def check(part: Any, env: Any = None) -> None:
    """Check the layers of a user, in whatever form ``network`` takes them; it takes some seconds to compile.

    That the parameters are floats, which the key decides; that the outputs have the shape of their rows, are the same
    compiled and vectorized, have finite gradients, and that no row changes another one; with a memory, that a sequence
    gives what its steps give one by one, and that nothing is remembered beyond the beginning of an episode.

    Args:
        part: the layers.
        env: an environment of ``rlgd.envs.make``: the layers are tried with features of its observations. None: four
            numbers, as in CartPole.

    Raises:
        UsageError: for the first thing that is not as it should be: what, where, and what is expected.
    """
    torso = own.torso(part)
    inputs, images = (4, ()) if env is None else (num_features(env.spec.obs), image_shapes(env.spec.obs))
    tried = network(inputs, OUTPUTS, hidden_sizes=(), images=images, kind=torso)
    with _running("init", "arrays that JAX can compute from a key"):
        params, again, other = (jax.jit(tried.init)(jax.random.key(key)) for key in (0, 0, 1))
    _check_params(params, again, other)
    if torso.memory_size is None:
        _check_rows(tried, params, _features(inputs, images, (STEPS, ROWS)))
    else:
        _check_memory(tried, params, _features(inputs, images, (ROWS, STEPS)))


def _features(inputs: int, images: tuple[tuple[int, int, int], ...], batch: tuple[int, ...]) -> Features:
    keys = jax.random.split(jax.random.key(DATA), 1 + len(images))
    vector = jax.random.normal(keys[0], (*batch, inputs))
    pictures = [jax.random.uniform(key, (*batch, *shape)) for key, shape in zip(keys[1:], images, strict=True)]
    return Features(vector, tuple(pictures))


@contextlib.contextmanager
def _running(where: str, expected: str) -> Iterator[None]:
    """Name the function in the error of whatever is raised inside."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        message = str(error).strip().partition("\n")[0]
        raise _fail(where, f"it raises {type(error).__name__}: {message}", expected) from error


def _fail(where: str, found: str, expected: str) -> UsageError:
    return UsageError(f"network: {where}: {found}; expected: {expected}.")


def _check_params(params: Any, again: Any, other: Any) -> None:
    leaves = jax.tree.leaves(params)
    if odd := {str(leaf.dtype) for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)}:
        raise _fail("init", f"it returns {', '.join(odd)}", "floats alone, which a gradient can move")
    if not all(np.array_equal(a, b) for a, b in zip(leaves, jax.tree.leaves(again), strict=True)):
        raise _fail("init", "the same key gives other parameters", "no random numbers but those of the key")
    torsos = params["torso"], other["torso"]
    if leaves and all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, torsos), strict=True)):
        raise _fail("init", "every key gives the same parameters", "random numbers of the key, so that seeds differ")


def _check_rows(tried: Network, params: Any, features: Features) -> None:
    with _running("apply", "hidden units [..., width] of features [..., d], that JAX can compile"):
        outputs = jax.jit(tried.apply)(params, features)
        rows = jax.vmap(jax.vmap(lambda row: tried.apply(params, row)))(features)
        one = tried.apply(params, jax.tree.map(lambda x: x[0], features))
        _check_gradient(lambda params: tried.apply(params, features).sum(), params)
    if not (_near(outputs, rows) and _near(outputs[0], one)):
        raise _fail("apply", "a row has another result alone than among others", "that rows do not change each other")


def _check_memory(tried: Network, params: Any, features: Features) -> None:
    first = jnp.zeros((ROWS, STEPS), bool).at[:, 0].set(True).at[0, STEPS // 2].set(True)
    old = jax.random.normal(jax.random.key(MEMORY), (ROWS, tried.memory_size or 0))
    sequence = features._replace(first=first, memory=old)
    with _running("apply", "(hidden [N, T, width], memory [N, T, size]), and the same of single steps without T"):
        whole = jax.jit(tried.read)(params, sequence)
        memory: Array | None = old
        outputs = []
        for vector, begins, *images in zip(*map(_by_time, (features.vector, first, *features.images)), strict=True):
            step = tried.read(params, Features(vector, tuple(images), first=begins, memory=memory))
            memory = step.memory
            outputs.append(step.outputs)
        other = tried.read(params, sequence._replace(memory=old + 1))
        _check_gradient(lambda params: tried.apply(params, sequence).sum(), params)
    if whole.memory is None or whole.memory.shape != (ROWS, STEPS, tried.memory_size):
        wanted = f"[N, T, size] = {(ROWS, STEPS, tried.memory_size)}"
        raise _fail("apply", f"memory is {jnp.shape(whole.memory)}", wanted)
    if not (
        _near(whole.outputs, jnp.stack(outputs, axis=1)) and memory is not None and _near(whole.memory[:, -1], memory)
    ):
        raise _fail("apply", "a sequence gives other results than its steps one by one", "the same results")
    if not _near(whole.outputs, other.outputs):
        raise _fail("apply", "the memory from before an episode's first step is used in it", "that `first` clears it")


def _by_time(x: Array) -> Array:
    return jnp.swapaxes(x, 0, 1)


def _check_gradient(total: Any, params: Any) -> None:
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(jax.grad(total)(params))):
        raise _fail("apply", "its gradient is not finite", "a finite gradient at random features")


def _near(a: Array, b: Array) -> bool:
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE))
