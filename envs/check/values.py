"""The values that an environment gives, compared with its spaces and with Gymnasium's interface."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlgd.envs.aliases import Space
from rlgd.envs.check.play import as_array, first_index
from rlgd.envs.check.report import Log, Severity, quote
from rlgd.spaces import MultiDiscreteSpec, ObsSpec, mask_size

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_INTEGERS = 2**24  # up to here float32 has every whole number
MASK = "give info['action_mask'] in every reset and step: 0 or 1 for each action, int8 or bool, at least one of them 1"


def check_member(log: Log, place: str, space: Space, value: Any, part: str = "observation") -> None:
    """Add findings if a value is not in its space, or cannot be stored in float32."""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or set(value) != set(space.spaces):
            given = f"has the keys {quote(list(value))}" if isinstance(value, Mapping) else f"is {typed(value)}"
            log.add("fault", "structure", place, given, f"give a dictionary with the keys {list(space)}", part)
            return
        for name, inner in space.spaces.items():
            check_member(log, place, inner, value[name], f"{part}[{name!r}]")
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space):
            log.add("fault", "structure", place, f"is {typed(value)}", f"give a tuple of {len(space)} parts", part)
            return
        for i, inner in enumerate(space.spaces):
            check_member(log, place, inner, value[i], f"{part}[{i}]")
    else:
        _check_array(log, place, space, value, part)


def _check_array(log: Log, place: str, space: Space, value: Any, part: str) -> None:
    array = as_array(value)
    if array.dtype.kind not in "biuf":
        log.add("fault", "dtype", place, f"is {typed(value)}", f"give numbers, {space.dtype} by the space", part)
        return
    if array.shape != space.shape:
        what = f"has the shape {array.shape}; by the space it is {space.shape}"
        log.add("fault", "shape", place, what, "give what the space announces, or announce what you give", part)
        return
    _check_dtype(log, place, space, array, part)
    _check_values(log, place, space, array, part)


def _check_dtype(log: Log, place: str, space: Space, array: NDArray[Any], part: str) -> None:
    assert space.dtype is not None
    if not np.can_cast(array.dtype, space.dtype):
        loses = not np.can_cast(array.dtype, space.dtype, "same_kind")
        what = f"is {array.dtype}; by the space it is {space.dtype}"
        log.add("fault" if loses else "warning", "dtype", place, what, f"give it as {space.dtype}", part)


def _check_values(log: Log, place: str, space: Space, array: NDArray[Any], part: str) -> None:
    if not np.all(np.isfinite(array)):
        index = first_index(~np.isfinite(array))
        log.add("fault", "finite", place, f"is {array[index]}", "give finite numbers", part, index)
        return
    largest = FLOAT32_MAX if array.dtype.kind == "f" else FLOAT32_INTEGERS
    if array.dtype.itemsize >= 4 and isinstance(space, spaces.Box) and np.any(beyond := np.abs(array) > largest):
        index = first_index(beyond)
        what = f"is {array[index]}, which float32 cannot represent"
        log.add("warning", "range", place, what, "scale it: networks compute in float32", part, index)
    low, high = _bounds(space)
    with np.errstate(over="ignore"):
        stored = array.astype(space.dtype)
    if np.any(outside := (stored < low) | (stored > high)):
        index = first_index(outside)
        bounds = [np.broadcast_to(bound, array.shape)[index] for bound in (low, high)]
        severity: Severity = "warning" if isinstance(space, spaces.Box) else "fault"
        what = f"is {array[index]}, outside of {bounds[0]} to {bounds[1]}"
        log.add(severity, "bounds", place, what, "widen the bounds of the space, or clip", part, index)


def _bounds(space: Space) -> tuple[Any, Any]:
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return (space.low, space.high) if isinstance(space, spaces.Box) else (0, 1)


def check_reward(log: Log, place: str, reward: Any) -> None:
    """Add a finding if a reward is not a finite real number."""
    if isinstance(reward, int | float | np.integer | np.floating) and not isinstance(reward, bool):
        size = abs(float(reward))
        if not math.isfinite(size):
            log.add("fault", "reward", place, f"is {reward}", "return a finite number", "reward")
        elif size > FLOAT32_MAX:
            log.add("warning", "reward", place, f"is {reward}, which float32 cannot represent", "scale it", "reward")
        return
    # True, or an array without axes
    number = isinstance(reward, bool) or (
        getattr(reward, "shape", None) == () and np.asarray(reward).dtype.kind in "biuf"
    )
    log.add("warning" if number else "fault", "reward", place, f"is {typed(reward)}", "return a float", "reward")


def check_mask(log: Log, place: str, action: ObsSpec, given: Any, over: bool) -> None:
    """Add a finding if an action mask is wrong; when the episode is ``over``, it may allow nothing."""
    size, part = mask_size(action), "info['action_mask']"
    if size is None:
        what = "is given, but only Discrete and MultiDiscrete actions have masks"
        log.add("note", "action mask", place, what, "it is ignored", part)
        return
    mask = as_array(given)
    if mask.shape != (size,):
        log.add("fault", "action mask", place, f"has the shape {mask.shape}, not {(size,)}", MASK, part)
    elif mask.dtype.kind not in "biu" or np.any((mask != 0) & (mask != 1)):
        log.add("fault", "action mask", place, f"is {quote(mask)}", MASK, part)
    elif not over:
        sizes = action.nvec if isinstance(action, MultiDiscreteSpec) else (size,)
        if not all(np.any(one) for one in np.split(mask, np.cumsum(sizes)[:-1])):
            log.add("fault", "action mask", place, "allows no action", MASK, part)


def typed(value: Any) -> str:
    """A value in one line, with its type and shape."""
    shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
    return f"{quote(value)} ({type(value).__name__}{shape})"
