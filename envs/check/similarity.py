"""How often observations are alike, and whether that is more often than by chance."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlgd.envs.check.play import same

UNLIKELY = 0.01


class Share:
    """In how many of the cases something was true."""

    def __init__(self, cases: Sequence[bool] = ()) -> None:
        self.hits, self.total = sum(cases), len(cases)

    def add(self, case: bool) -> None:
        self.hits, self.total = self.hits + case, self.total + 1

    def always_unlike(self, usual: "Share") -> bool:
        """Whether it was true in every case, which has a probability below ``UNLIKELY`` at its ``usual`` rate."""
        if usual.total == 0 or not 0 < self.hits == self.total:
            return False
        return ((usual.hits + 1) / (usual.total + 2)) ** self.total < UNLIKELY


class ObsRange:
    """The range of the observations that begin episodes, widened by a tenth on each side."""

    def __init__(self, starts: Sequence[Any]) -> None:
        values = np.stack([_flatten(obs) for obs in starts])
        low, high = values.min(axis=0), values.max(axis=0)
        slack = 0.1 * (high - low)
        self.low, self.high = low - slack, high + slack

    def contains(self, obs: Any) -> bool:
        values = _flatten(obs)
        return bool(np.all((values >= self.low) & (values <= self.high)))


def _flatten(obs: Any) -> NDArray[np.float64]:
    parts = tuple(obs.values()) if isinstance(obs, dict) else obs
    return np.concatenate([_flatten(part) for part in parts]) if isinstance(parts, tuple) else np.ravel(parts) * 1.0


@dataclasses.dataclass
class Similarity:
    """How often an observation within an episode equals another one.

    Attributes:
        unchanged: it equals the observation before.
        like_first: it equals the first one after the reset.
        like_start: it is in the range of those that begin episodes.
    """

    unchanged: Share = dataclasses.field(default_factory=Share)
    like_first: Share = dataclasses.field(default_factory=Share)
    like_start: Share = dataclasses.field(default_factory=Share)

    def add(self, obs: Any, before: Any, first: Any, starts: ObsRange) -> None:
        self.unchanged.add(same(before, obs))
        self.like_first.add(same(first, obs))
        self.like_start.add(starts.contains(obs))
