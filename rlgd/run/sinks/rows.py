"""The rows of the curves: plain numbers made from chunks of iterations, a few hundred rows a run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rlgd.envs.aliases import SUCCESSES
from rlgd.run.sinks.recent import RecentEpisodes
from rlgd.training.chunks import Chunk
from rlgd.training.history import concatenated

ROWS_PER_RUN = 400
SUMS = {"rollout/return_sum": "rollout/episode_return", "rollout/length_sum": "rollout/episode_length"}
ALWAYS = {"rollout/steps", "rollout/episodes", *SUMS}  # metrics that every iteration has


@dataclasses.dataclass(frozen=True)
class Row:
    """Values at a step: ``step`` counts environment steps, ``seconds`` training time without compilation."""

    step: int
    seconds: float
    values: dict[str, float]


class RowAverager:
    """Averages every ``every`` iterations into one row. Rows end at multiples of ``every``, however chunks end.

    Args:
        pending: what ``pending()`` returned before the run was resumed; anything else is ignored.
        recent: what ``recent.kept()`` returned then.

    Attributes:
        step, seconds, compile_seconds, iteration: of the whole run so far.
        recent: its newest episodes.
    """

    def __init__(
        self,
        every: int,
        step: int = 0,
        seconds: float = 0.0,
        compile_seconds: float = 0.0,
        iteration: int = 0,
        pending: Mapping[str, Sequence[float]] | None = None,
        recent: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.every, self.step, self.iteration = every, step, iteration
        self.seconds, self.compile_seconds = seconds, compile_seconds
        self.recent = RecentEpisodes(recent)
        self._pending: list[Mapping[str, np.ndarray]] = []
        if pending and pending.keys() >= ALWAYS:
            self._pending.append({name: np.array(values, np.float64) for name, values in pending.items()})

    def pending(self) -> dict[str, list[float]]:
        """Metrics of the iterations that are in no row yet, as plain values; float64 represents each exactly."""
        return {name: values.tolist() for name, values in concatenated(self._pending, np.float64).items()}

    def rows(self, chunk: Chunk) -> Iterator[Row]:
        """The rows that a chunk completes; its training time is divided among them by steps."""
        steps = chunk.metrics["rollout/steps"].astype(np.int64)
        share = chunk.training_seconds / max(int(steps.sum()), 1)
        self.compile_seconds += chunk.compile_seconds
        start = 0
        while start < len(steps):
            stop = min(start + self.every - self.iteration % self.every, len(steps))
            iterations = {name: values[start:stop] for name, values in chunk.metrics.items()}
            self._pending.append(iterations)
            self.recent.add(iterations)
            taken = int(steps[start:stop].sum())
            self.step, self.seconds = self.step + taken, self.seconds + taken * share
            self.iteration += stop - start
            start = stop
            if self.iteration % self.every == 0:
                yield self._row()

    def rest(self) -> Iterator[Row]:
        """The row of the iterations that are left at the end of a run."""
        if self._pending:
            yield self._row()

    def _row(self) -> Row:
        metrics = concatenated(self._pending, np.float64)
        self._pending = []
        values = summarize(metrics)
        if (mean := self.recent.mean_return) is not None:
            values["rollout/episode_return_100"] = mean
        values["time/training_seconds"] = self.seconds
        values["time/compile_seconds"] = self.compile_seconds
        values["time/steps_per_second"] = self.step / max(self.seconds, 1e-9)
        return Row(self.step, self.seconds, values)


def summarize(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over iterations, and the mean return and length over the episodes that ended; absent if none did.

    Diagnostics are NaN in iterations that were not measured, and averaged over the others.
    """
    episodes = int(metrics["rollout/episodes"].sum())
    values = {"rollout/episodes": float(episodes)}
    for name, array in metrics.items():
        if name in SUMS:
            if episodes:
                values[SUMS[name]] = float(array.sum(dtype=np.float64) / episodes)
        elif name == SUCCESSES:
            if ended := int(metrics["rollout/episodes"][known := ~np.isnan(array)].sum()):
                values["rollout/success_rate"] = float(array[known].sum(dtype=np.float64) / ended)
        elif not name.startswith("rollout/") and (measured := array[~np.isnan(array)]).size:
            values[name] = float(measured.mean(dtype=np.float64))
    return values
