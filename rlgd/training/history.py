"""The metrics of many iterations in few arrays: an iteration writes one row, not one number for each metric."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.pytrees import Metrics


@functools.partial(jax.tree_util.register_dataclass, data_fields=["columns"], meta_fields=["names"])
@dataclasses.dataclass(frozen=True)
class History:
    """Metrics of iterations, those of one dtype side by side.

    Attributes:
        columns: for each dtype ``[..., iterations, metrics]``.
        names: of the metrics, for each dtype.
    """

    columns: tuple[Any, ...]
    names: tuple[tuple[str, ...], ...]

    @classmethod
    def blank(cls, metrics: Metrics, iterations: int) -> "History":
        """With room for this many iterations of metrics, each a scalar; only their dtypes matter."""
        by_dtype: dict[Any, list[str]] = {}
        for name, value in metrics.items():
            by_dtype.setdefault(value.dtype, []).append(name)
        columns = (jnp.zeros((iterations, len(names)), dtype) for dtype, names in by_dtype.items())
        return cls(tuple(columns), tuple(map(tuple, by_dtype.values())))

    def with_iteration(self, number: Array, metrics: Metrics) -> "History":
        """With the metrics of the iteration ``number``."""
        rows = [jnp.stack([metrics[name] for name in names]) for names in self.names]
        columns = (whole.at[number].set(row) for whole, row in zip(self.columns, rows, strict=True))
        return dataclasses.replace(self, columns=tuple(columns))

    def metrics(self) -> dict[str, Any]:
        """Each metric by its name, ``[..., iterations]``."""
        pairs = zip(self.names, self.columns, strict=True)
        return {name: column[..., place] for names, column in pairs for place, name in enumerate(names)}


def concatenated(
    parts: Sequence[Mapping[str, np.ndarray]], dtype: type[np.float64] | None = None
) -> dict[str, np.ndarray]:
    """Metrics ``[iterations]`` of several parts one after the other, NaN where a part has not been measured."""
    names = dict.fromkeys(name for part in parts for name in part)

    def column(part: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        return part[name] if name in part else np.full(len(part["rollout/steps"]), np.nan, np.float32)

    return {name: np.concatenate([column(part, name) for part in parts], dtype=dtype) for name in names}
