"""The random generators that an environment has beside Gymnasium's, and whether several environments have the same.

Worker processes import this module: it imports no JAX.
"""

import contextlib
import itertools
import pickle
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from rlgd.envs.aliases import GymEnv

MAX_OBJECTS = 10_000  # of an environment that are looked at


def set_apart(objects: Iterable[Any], number: int) -> None:
    """Seed the generators among the objects of a copy again, from their own state and the number of the copy."""
    for generator in objects:
        if isinstance(generator, np.random.Generator):
            bits = generator.bit_generator
            seed = np.random.SeedSequence(generator.integers(2**32, size=8).tolist(), spawn_key=(number,))
            bits.state = type(bits)(seed).state
        elif isinstance(generator, np.random.RandomState):
            generator.seed([*generator.randint(2**31, size=8).tolist(), number])
        elif isinstance(generator, random.Random):
            generator.seed(f"{generator.random()} {number}")


def own_generators(env: GymEnv) -> dict[str, bytes]:
    """The state of each generator that the environment's attributes lead to, by its name there; JAX's keys too.

    Left out are those of Gymnasium, which ``reset(seed=...)`` seeds.
    """
    found: dict[str, bytes] = {}
    seen, waiting = set[int](), [(type(env).__name__, env)]
    while waiting and len(seen) < MAX_OBJECTS:
        name, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        state = _state(value)
        if state is None:
            with contextlib.suppress(Exception):  # of objects that refuse to be looked at
                waiting.extend(itertools.islice(_parts(name, value), MAX_OBJECTS))
        else:
            found[name] = state
    return found


def in_common(make: Callable[[int], GymEnv]) -> list[str]:
    """The generators that have the same state in two environments, from when they are made, whatever their seeds.

    Args:
        make: makes the environment of a number.
    """
    with contextlib.closing(make(0)) as one, contextlib.closing(make(1)) as other:
        same = own_generators(one).items() & own_generators(other).items()
        if same:
            one.reset(seed=0)
            other.reset(seed=1)
        still = own_generators(one).items() & own_generators(other).items()
        return sorted({name for name, _ in same} & {name for name, _ in still})


def _state(value: Any) -> bytes | None:
    """The state of a generator; None of what is none."""
    if isinstance(value, np.random.Generator):
        return pickle.dumps(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return pickle.dumps(value.get_state(legacy=False))
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return pickle.dumps(value.getstate())
    jax: Any = sys.modules.get("jax")
    if jax is None or not isinstance(value, jax.Array):
        return None
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(value)).tobytes()
    return np.asarray(value).tobytes() if (value.dtype, value.shape) == (np.uint32, (2,)) else None


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{name}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, gymnasium.Wrapper):
        own = {key: part for key, part in vars(value).items() if key != "env"}
        yield from ((f"{type(value).__name__}.{key}", part) for key, part in own.items())
        yield type(value.env).__name__, value.env
    elif not isinstance(value, type | ModuleType | gymnasium.Space) and isinstance(
        getattr(value, "__dict__", None), dict
    ):
        own = {key: part for key, part in vars(value).items() if key != "_np_random"}
        yield from ((f"{name}.{key}", part) for key, part in own.items())
