"""Random play: actions, what environments answer, and where two answers differ.

Worker processes import this module: it imports no JAX.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlgd.envs.aliases import GymEnv, Space

LOWEST, HIGHEST = 0, -1
Choice: TypeAlias = np.random.Generator | int  # how an action is chosen: at random, or ``LOWEST`` or ``HIGHEST``


# What is sent to an environment


def choose_action(space: Space, mask: Any, choice: Choice) -> Any:
    """An action that the mask allows (None: all actions): drawn by a generator, or the ``LOWEST`` or ``HIGHEST``."""
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(space.start + _one(int(space.n), mask, choice))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = [int(n) for n in np.ravel(space.nvec)]
        masks = [None] * len(sizes) if mask is None else np.split(np.ravel(mask), np.cumsum(sizes)[:-1])
        chosen = [_one(n, part, choice) for n, part in zip(sizes, masks, strict=True)]
        return (np.reshape(chosen, space.shape) + space.start).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        bits = choice.integers(2, size=space.shape) if isinstance(choice, np.random.Generator) else abs(choice)
        return np.broadcast_to(bits, space.shape).astype(space.dtype)
    assert isinstance(space, spaces.Box)
    low = np.where(space.bounded_below, space.low, np.where(space.bounded_above, space.high - 1.0, -1.0))
    high = np.where(space.bounded_above, space.high, low + 2.0)
    share = choice.random(space.shape) if isinstance(choice, np.random.Generator) else np.full(space.shape, abs(choice))
    return (low * (1 - share) + high * share).astype(space.dtype)


def _one(n: int, mask: Any, choice: Choice) -> int:
    allowed = np.flatnonzero(mask) if mask is not None and np.size(mask) == n and np.any(mask) else np.arange(n)
    return int(choice.choice(allowed) if isinstance(choice, np.random.Generator) else allowed[choice])


# What comes back, and how it is compared


class Answer(NamedTuple):
    """What one environment gave in a reset (``reward`` None) or a step, copied."""

    obs: Any
    reward: Any = None
    terminated: Any = False
    truncated: Any = False


PARTS = ("observation", "reward", "terminated", "truncated")  # of an ``Answer``, in messages


def frozen(value: Any) -> Any:
    """A copy of an observation, in NumPy arrays."""
    if isinstance(value, Mapping):
        return {name: frozen(part) for name, part in value.items()}
    return tuple(map(frozen, value)) if isinstance(value, tuple) else as_array(value)


def as_array(value: Any) -> NDArray[Any]:
    """A copy as an array; a value that cannot be one, such as lists of different lengths, is kept as one object."""
    try:
        return np.array(value)
    except ValueError:
        array = np.empty((), object)
        array[()] = copy.deepcopy(value)
        return array


def difference(one: Any, other: Any, part: str = "observation") -> str | None:
    """Where two frozen values differ first, and how; None where they are equal."""
    if _keys(one) != _keys(other):
        return f"{part} has another structure"
    if isinstance(one, dict):
        found = (difference(one[name], other[name], f"{part}[{name!r}]") for name in one)
        return next(filter(None, found), None)
    if isinstance(one, tuple):
        found = (difference(*pair, f"{part}[{i}]") for i, pair in enumerate(zip(one, other, strict=True)))
        return next(filter(None, found), None)
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape:
        return f"{part} has the shape {a.shape}, then {b.shape}"
    differs = (a != b) & ~((a != a) & (b != b))  # NaN is equal to NaN here
    if not np.any(differs):
        return None
    index = first_index(differs)
    return f"{part}{list(index) if index else ''} is {a[index]}, then {b[index]}"


def same(one: Any, other: Any) -> bool:
    """Whether two frozen values are equal."""
    return difference(one, other) is None


def _keys(value: Any) -> Any:
    return set(value) if isinstance(value, dict) else len(value) if isinstance(value, tuple) else None


def first_index(mask: Any) -> tuple[int, ...]:
    """Where a mask is first true; () for a single number."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def play(envs: Sequence[GymEnv], seed: int, num_steps: int) -> list[list[Answer]]:
    """Step environments in turn with random actions, the i-th with the seed ``seed + i``: the answers of each."""
    rngs = [np.random.default_rng(seed + i) for i in range(len(envs))]
    answers: list[list[Answer]] = [[] for _ in envs]
    masks: list[Any] = [None] * len(envs)

    def reset(i: int, seed: int | None) -> None:
        obs, info = envs[i].reset(seed=seed, options=None)
        answers[i].append(Answer(frozen(obs)))
        masks[i] = info.get("action_mask")

    for i in range(len(envs)):
        reset(i, seed + i)
    for _ in range(num_steps):
        for i, env in enumerate(envs):
            action = choose_action(env.action_space, masks[i], rngs[i])
            obs, reward, terminated, truncated, info = env.step(action)
            answers[i].append(Answer(frozen(obs), reward, terminated, truncated))
            masks[i] = info.get("action_mask")
            if terminated or truncated:
                reset(i, None)
    return answers
