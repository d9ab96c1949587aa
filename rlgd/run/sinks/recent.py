"""The mean return of the newest episodes, however many end in an iteration."""

from collections.abc import Mapping, Sequence

import numpy as np

EPISODES = 100
SUMS = ("rollout/episodes", "rollout/return_sum")  # metrics of an iteration: how many episodes ended, their returns


class RecentEpisodes:
    """Sums over the iterations in which the newest ``EPISODES`` episodes ended.

    Args:
        kept: what ``kept()`` returned before the run was resumed; anything else is ignored.
    """

    def __init__(self, kept: Mapping[str, Sequence[float]] | None = None) -> None:
        known = kept is not None and kept.keys() >= {*SUMS}
        self._sums = np.array([kept[name] if known and kept else () for name in SUMS], np.float64)

    def add(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Add iterations, each metric ``[iterations]``."""
        new = np.array([metrics[name] for name in SUMS], np.float64)
        sums = np.concatenate([self._sums, new[:, new[0] > 0]], axis=1)
        newer = np.cumsum(sums[0, ::-1])[::-1] - sums[0]  # episodes after each iteration
        self._sums = sums[:, newer < EPISODES]

    @property
    def mean_return(self) -> float | None:
        """Their mean return, of all while there are fewer; None before the first episode has ended.

        Of the oldest iteration, whose episodes may be more than are needed, the mean return stands for each of them.
        """
        episodes, returns = self._sums
        if not episodes.size:
            return None
        needed = np.append(min(episodes[0], EPISODES - episodes[1:].sum()), episodes[1:])
        return float((returns / episodes * needed).sum() / needed.sum())

    def kept(self) -> dict[str, list[float]]:
        """The sums as plain values, for ``RecentEpisodes``."""
        return {name: values.tolist() for name, values in zip(SUMS, self._sums, strict=True)}
