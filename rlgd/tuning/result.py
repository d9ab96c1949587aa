"""The result of a search, and the files that show it."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from rlgd import hyperparameters
from rlgd.errors import StorageFault
from rlgd.maths.confidence import Interval
from rlgd.studies.arms import as_label
from rlgd.tuning.trials import Task

BEST, SUMMARY = "best.json", "summary.md"


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """The result of a search.

    Attributes:
        best: the values with the highest score.
        search_score: their score in the search. It is too optimistic: the best of many, on the seeds that chose it.
        fresh: interquartile mean of their returns on seeds that the search did not use, with its 95% interval; None:
            they were not trained again.
        trials: number, state, score and values of each trial that has ended.
        tune_dir: the directory of the search.
    """

    best: dict[str, Any]
    search_score: float
    fresh: Interval | None
    trials: tuple[dict[str, Any], ...]
    tune_dir: Path

    def table(self) -> str:
        """The trials in Markdown, the best first, and both scores of the best values."""
        names = list(self.best)
        lines = [f"| trial | score | {' | '.join(names)} |", f"| --- | --- | {' | '.join('---' for _ in names)} |"]

        def rank(trial: dict[str, Any]) -> tuple[bool, bool, float]:
            return trial["state"] != "complete", math.isnan(trial["score"]), -trial["score"]

        for trial in sorted(self.trials, key=rank):
            score = f"{trial['score']:.1f}" + ("" if trial["state"] == "complete" else f" ({trial['state']})")
            cells = [as_label(trial["values"].get(name, "")) for name in names]
            lines.append(f"| {trial['number']} | {score} | {' | '.join(cells)} |")
        best = " ".join(f"{name}={as_label(value)}" for name, value in self.best.items())
        lines += ["", f"best: {best}", f"score in the search: {self.search_score:.1f}"]
        if self.fresh is not None:
            value, low, high = self.fresh
            lines.append(f"score on fresh seeds: {value:.1f} [{low:.1f}, {high:.1f}]")
        return "\n".join(lines)


def publish(result: TuneResult, task: Task) -> None:
    """Write the table, and the best values as flags for ``rlgd train --config``.

    Raises:
        StorageFault: if they cannot be written.
    """
    run = {"env": task.env.env_id, "total_timesteps": task.total_timesteps}
    try:
        text = json.dumps({**run, **hyperparameters.changed(task.agent), **result.best}, indent=2)
        (result.tune_dir / BEST).write_text(text + "\n", encoding="utf-8")
        (result.tune_dir / SUMMARY).write_text(result.table() + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageFault(f"the results could not be written to {result.tune_dir}: {error.strerror}.") from error
