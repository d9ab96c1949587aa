"""The result of a search, and the files that show it."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlgd import hyperparameters
from rlgd.errors import StorageFault
from rlgd.frames import frame
from rlgd.maths.confidence import Interval, in_words
from rlgd.studies.arms import as_label
from rlgd.system import files
from rlgd.tables import as_html, markdown_within
from rlgd.tuning.sharing import BEST, SUMMARY
from rlgd.tuning.space import values_in_words
from rlgd.tuning.trials import Task

KEPT = ("trial", "score")  # columns, also on narrow terminals


@dataclasses.dataclass(frozen=True, repr=False)
class TuneResult:
    """The result of a search.

    Attributes:
        best: the values with the highest score.
        search_score: their score in the search. It is too optimistic: the best of many, on the seeds that chose it.
        fresh: interquartile mean of their returns on seeds that the search did not use, with its 95% interval; None:
            they were not trained again.
        fresh_diverged: how many of these seeds diverged; they count with the policy before that.
        trials: number, state, score, values and reason ("why") of each trial that has ended. The state is "complete",
            "pruned" (worse than most), "misfit" (values that do not fit together), "diverged" or "failed" (an
            exception); only the first two have a score, and only a complete one can be the best.
        tune_dir: the directory of the search.
    """

    best: dict[str, Any]
    search_score: float
    fresh: Interval | None
    fresh_diverged: int
    trials: tuple[dict[str, Any], ...]
    tune_dir: Path

    def __repr__(self) -> str:
        best = values_in_words(self.best)
        return f"TuneResult({best}, {self._scores()}, {len(self.trials)} trials, in {self.tune_dir})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return as_html(*self._cells(), repr(self))

    def frame(self) -> Any:
        """The trials as a ``pandas.DataFrame``, with their numbers as its index; a column for each value.

        Raises:
            UsageError: if pandas is not installed.
        """
        rows = [{name: x for name, x in t.items() if name != "values"} | t["values"] for t in self.trials]
        return frame(rows, "number")

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """The headings and the rows of the table of trials, the best first."""

        def rank(trial: dict[str, Any]) -> tuple[bool, bool, float]:
            return trial["state"] != "complete", math.isnan(trial["score"]), -trial["score"]

        def cells(trial: dict[str, Any]) -> list[str]:
            score = score_in_words(trial["score"]) + ("" if trial["state"] == "complete" else f" ({trial['state']})")
            return [str(trial["number"]), score, *(as_label(trial["values"].get(name, "")) for name in self.best)]

        return ["trial", "score", *self.best], [cells(trial) for trial in sorted(self.trials, key=rank)]

    def _scores(self) -> str:
        text = f"score in the search {self.search_score:.1f}"
        return text if self.fresh is None else f"{text}, on fresh seeds {in_words(self.fresh)}"

    def table(self, width: int | None = None) -> str:
        """The trials in Markdown, the best first, and both scores of the best values.

        With fewer columns if ``width`` is too small.
        """
        lines = [markdown_within(width, *self._cells(), KEPT, SUMMARY)]
        with_reason = [trial for trial in self.trials if trial["why"]]
        lines += [""] * bool(with_reason)
        lines += [f"- trial {trial['number']} ({trial['state']}): {trial['why']}" for trial in with_reason]
        lines += ["", f"best: {values_in_words(self.best)}", f"score in the search: {self.search_score:.1f}"]
        if self.fresh is not None:
            value, low, high = self.fresh
            diverged = f"; {self.fresh_diverged} diverged" if self.fresh_diverged else ""
            lines.append(f"score on fresh seeds: {value:.1f} [{low:.1f}, {high:.1f}]{diverged}")
        return "\n".join(lines)


def score_in_words(score: float) -> str:
    """A score for people; "-" if there is none."""
    return "-" if math.isnan(score) else f"{score:.1f}"


def publish(result: TuneResult, task: Task, figures: Mapping[str, bytes]) -> None:
    """Write the table, the figures, and the best values as flags for ``rlgd train --config``.

    Raises:
        StorageFault: if they cannot be written.
    """
    run = {"env": task.env.env_id, "total_timesteps": task.total_timesteps}
    try:
        text = json.dumps({**run, **hyperparameters.changed(task.agent), **result.best}, indent=2)
        files.replace(result.tune_dir / BEST, text + "\n")
        for name, content in figures.items():
            files.replace(result.tune_dir / name, content)
        pictures = [f"![{Path(name).stem}]({name})" for name in figures]
        files.replace(result.tune_dir / SUMMARY, "\n\n".join([result.table(), *pictures]) + "\n")
    except OSError as error:
        reason = files.why(error, result.tune_dir)
        raise StorageFault(f"the results could not be written to {result.tune_dir}: {reason}.") from error
