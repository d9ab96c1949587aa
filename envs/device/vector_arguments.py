"""The arguments of ``DeviceVectorEnv``, checked."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import MultiDiscrete
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rlgd import spaces
from rlgd.envs.aliases import Bools, Info, Space
from rlgd.errors import UsageError, unknown
from rlgd.spaces import BoxSpec, LeafSpec, ObsSpec

MOST_SEED = 2**64 - 1


def autoreset_mode(given: AutoresetMode | str) -> AutoresetMode:
    """An ``AutoresetMode`` from itself or its value."""
    try:
        return AutoresetMode(given)
    except ValueError as error:
        raise unknown("autoreset mode", str(given), [mode.value for mode in AutoresetMode]) from error


def reset_mask(env_id: str, options: Info, num_envs: int) -> Bools:
    """Which environments ``reset`` begins, ``[N]`` bool, from its options."""
    if others := sorted(options.keys() - {"reset_mask"}):
        raise UsageError(f"{env_id} takes no reset options but reset_mask; got {', '.join(others)}.")
    everywhere = np.ones(num_envs, bool)
    mask = options.get("reset_mask", everywhere)
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != everywhere.shape or not mask.any():
        raise UsageError(
            f"reset_mask is {mask!r}; allowed: a NumPy array of bool with the shape {everywhere.shape}, not all False."
        )
    return mask


def seeds(given: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """The seed of each environment; None where its generator continues."""
    if given is None or isinstance(given, int | np.integer):
        given = [None if given is None else int(given) + n for n in range(num_envs)]
    each = [None if one is None else int(one) for one in given]
    if len(each) != num_envs:
        raise UsageError(f"there are {len(each)} seeds; allowed: one number, or one for each of {num_envs}.")
    wrong = [one for one in each if one is not None and not 0 <= one <= MOST_SEED]
    if wrong:
        raise UsageError(f"the seed is {wrong[0]}; allowed: whole numbers from 0 to 2**64 - 1.")
    return each


def bounds(space: Space) -> tuple[Any, Any]:
    """The lowest and the highest numbers of a batched space of actions ``[N, ...]``."""
    if isinstance(space, MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    assert isinstance(space, gymnasium.spaces.Box)  # Gymnasium batches every other supported space as a Box
    return space.low, space.high


def action_checker(batch: Space, single: Space, spec: ObsSpec) -> Callable[[Any], Any]:
    """What checks actions ``[N, ...]``, and gives them the dtypes that the environment receives.

    Args:
        batch: the space of actions ``[N, ...]``.
        single: that of one environment.
        spec: the description of ``single``.
    """
    checkers = spaces.map_parts(lambda part, *of: ActionChecker(of[0], of[1], part), spec, batch, single)

    def check(actions: Any) -> Any:
        try:
            return spaces.map_parts(lambda part, checker, given: checker(given), spec, checkers, actions)
        except (KeyError, IndexError, TypeError) as error:
            raise UsageError(f"the actions have another structure than {single}: {error!r}.") from error

    return check


class ActionChecker:
    """Checks actions of one array and gives them the dtype that the environment receives.

    Args:
        batch: the space of actions ``[N, ...]``.
        single: that of one environment.
        spec: the description of ``single``.
    """

    def __init__(self, batch: Space, single: Space, spec: LeafSpec) -> None:
        self._batch, self._single, self._spec = batch, single, spec
        self._low, self._high = bounds(batch)

    def __call__(self, actions: Any) -> NDArray[Any]:
        given, spec = np.asarray(actions), self._spec
        if given.shape != self._batch.shape:
            raise UsageError(f"the actions' shape is {given.shape}; allowed: {self._batch.shape}.")
        if isinstance(spec, BoxSpec):
            right = np.isfinite(given)  # as in Gymnasium, the environment itself decides what to do beyond its bounds
        elif given.dtype.kind in "biu":
            right = (self._low <= given) & (given <= self._high)
        else:
            raise UsageError(f"the actions' type is {given.dtype}; allowed: whole numbers.")
        if not right.all():
            n = np.argwhere(~right)[0, 0]
            raise UsageError(f"the action of environment {n} is {given[n]}; allowed: {self._single}.")
        return given.astype(spaces.obs_shape_dtype(spec)[1])
