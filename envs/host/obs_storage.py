"""How observations from the host are stored: checked, copied, in the dtypes that the device has."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from rlgd import spaces
from rlgd.envs.host.checked import Broken
from rlgd.pytrees import Obs
from rlgd.spaces import BoxSpec, LeafSpec, ObsSpec
from rlgd.system.log import warn_once


class _Array(NamedTuple):
    """One array of the observations: its name in messages, and how it is stored.

    ``read_as`` is the type in which networks read it, if they may round its whole numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read_as: np.dtype[Any] | None


def _arrays(obs: ObsSpec, batch: tuple[int, ...]) -> Any:
    """The ``_Array`` of every part of an observation, in its structure."""

    def described(part: LeafSpec, name: str) -> _Array:
        shape, dtype = spaces.obs_shape_dtype(part)
        number = jax.dtypes.canonicalize_dtype(float)
        rounds = isinstance(part, BoxSpec) and dtype.kind in "iu" and dtype.itemsize >= number.itemsize
        return _Array(name, batch + shape, dtype, number if rounds else None)

    return spaces.map_parts(described, obs, spaces.names(obs, "observation"))


class ObsStorage:
    """Stores the observations of N environments.

    Args:
        spec: of one observation.
        num_envs: N.
    """

    def __init__(self, spec: ObsSpec, num_envs: int) -> None:
        self._spec = spec
        self._batch, self._single = _arrays(spec, (num_envs,)), _arrays(spec, ())

    def batch(self, obs: Any) -> Obs:
        """A copy of ``obs [N, ...]``: vector environments may return the memory that they write to in the next step.

        Raises:
            Broken: if the shape or dtype does not fit the space, or a number is not finite or cannot be stored.
        """
        return self._stored(self._batch, obs, None)

    def single(self, obs: Any, number: int) -> Obs:
        """A copy of one environment's observation; see ``batch``."""
        return self._stored(self._single, obs, number)

    def row(self, obs: Any, number: int) -> Obs:
        """A copy of one environment's row of ``obs [N, ...]``; see ``batch``."""
        return self.single(spaces.map_parts(lambda _, leaf: leaf[number], self._spec, obs), number)

    def _stored(self, arrays: Any, obs: Any, number: int | None) -> Obs:
        if isinstance(arrays, _Array):
            return _stored_array(number, arrays, obs)
        return spaces.map_parts(lambda _, *parts: _stored_array(number, *parts), self._spec, arrays, obs)


def _stored_array(number: int | None, array: _Array, leaf: Any) -> NDArray[Any]:
    given = np.asarray(leaf)
    same = given.dtype == array.dtype and given.shape == array.shape
    values = given.copy() if same else _converted(number, array, given)
    if not all_finite(values):
        index = tuple(np.argwhere(~np.isfinite(values))[0])
        wrong = f"{array.dtype} cannot hold" if np.isfinite(given[index]) else "must be finite"
        raise Broken(_broken(number, index), f"gave the {array.name} {given[index]}, which {wrong},")
    if array.read_as is not None and _may_round(values) and (values.astype(array.read_as) != values).any():
        warn_once(
            f"the {array.name} has whole numbers that networks round, because they compute in {array.read_as}, "
            "which has all of them only up to 2^24; give them shifted or scaled."
        )
    return values


def _may_round(values: NDArray[Any]) -> bool:
    """Whether a number is so large that float32 may round it; two passes cost less than the comparison itself."""
    return bool(values.max() > 2**24 or values.min() < -(2**24))


def _converted(number: int | None, array: _Array, given: NDArray[Any]) -> NDArray[Any]:
    if given.shape != array.shape or not np.can_cast(given.dtype, array.dtype, "same_kind"):
        raise Broken(
            None,
            f"gave the {array.name} as {given.dtype} in the shape {given.shape}, which must be {array.dtype} in the "
            f"shape {array.shape},",
        )
    if array.dtype.kind == given.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is found after this, with what was
            return given.astype(array.dtype)
    try:
        return spaces.converted(given, array.dtype)
    except spaces.ChangedError as changed:
        raise Broken(_broken(number, changed.index), f"gave the {array.name} {changed.what},") from None


def _broken(number: int | None, index: tuple[int, ...]) -> int:
    """Which environment gave the number at ``index``; ``number`` if only that one was asked."""
    return int(index[0]) if number is None else number


def all_finite(values: NDArray[Any], dtype: type[np.floating[Any]] | None = None) -> bool:
    """Whether all numbers are finite in ``dtype``; None: in their own.

    The sum is fast to check, but the sum of finite numbers may overflow.
    """
    if values.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduce(values.ravel(), dtype=dtype)
        return math.isfinite(total) or bool(np.isfinite(values.astype(dtype or values.dtype)).all())
