"""How observations from the host are stored: checked, copied, in the dtypes that the device has."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlgd import spaces
from rlgd.envs.host.checked import Broken
from rlgd.pytrees import Obs
from rlgd.spaces import DictSpec, ObsSpec, TupleSpec


class _Array(NamedTuple):
    """One array of the observations: its name in messages, and how it is stored."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _arrays(obs: ObsSpec, batch: tuple[int, ...], name: str = "observation") -> Any:
    """The ``_Array`` of every part of an observation, in its structure."""
    if isinstance(obs, DictSpec):
        return {key: _arrays(part, batch, f"{name}[{key!r}]") for key, part in obs.parts}
    if isinstance(obs, TupleSpec):
        return tuple(_arrays(part, batch, f"{name}[{i}]") for i, part in enumerate(obs.parts))
    shape, dtype = spaces.obs_shape_dtype(obs)
    return _Array(name, batch + shape, dtype)


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
            Broken: if the shape or dtype does not fit the space, or a number is not finite.
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
    values = given.copy() if same else _converted(array, given)
    if not all_finite(values):
        index = tuple(np.argwhere(~np.isfinite(values))[0])
        broken = int(index[0]) if number is None else number
        raise Broken(broken, f"gave the {array.name} {values[index]}, which must be finite,")
    return values


def _converted(array: _Array, given: NDArray[Any]) -> NDArray[Any]:
    if given.shape != array.shape or not np.can_cast(given.dtype, array.dtype, "same_kind"):
        raise Broken(
            None,
            f"gave the {array.name} as {given.dtype} in the shape {given.shape}, which must be {array.dtype} in the "
            f"shape {array.shape},",
        )
    with np.errstate(over="ignore"):  # numbers that are too large become infinite
        return given.astype(array.dtype)


def all_finite(values: NDArray[Any]) -> bool:
    """Whether all numbers are finite. The sum is fast to check, but the sum of finite numbers may overflow."""
    if values.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduce(values.ravel())
    return math.isfinite(total) or bool(np.isfinite(values).all())
