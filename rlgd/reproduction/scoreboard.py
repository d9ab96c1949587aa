"""The results of a reproduction: rlgd's scores beside the published ones, as a table and as plain values."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlgd.errors import UsageError
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval, in_words
from rlgd.reproduction.jobs import Job
from rlgd.reproduction.runs import RowRuns, SeedRun, read_score
from rlgd.reproduction.suite import Published
from rlgd.tables import markdown_within

HEADS = (
    *("environment", "agent", "steps", "seeds", "rlgd", "worst", "required", "seeds reaching it", "seconds"),
    "published",
)
KEPT = ("environment", "agent", "rlgd", "required")  # columns, also on narrow terminals


class RowResult(NamedTuple):
    """The result of a row.

    Attributes:
        runs: of the row.
        finished: the runs that are finished and scored.
        problem: why the row could not be trained, or why its runs do not count; empty if there is no problem.
    """

    runs: RowRuns
    finished: tuple[SeedRun, ...]
    problem: str = ""

    @property
    def scores(self) -> list[float]:
        """The mean return of each finished run's greedy policy."""
        return [run.score for run in self.finished if run.score is not None]

    @property
    def score(self) -> Interval | None:
        """The interquartile mean of the scores, with its interval; None without scores."""
        return confidence.interval(self.scores) if self.finished else None

    @property
    def reached(self) -> bool:
        """Whether all runs are finished, and the interquartile mean of their scores is at least the required one."""
        score = self.score
        return score is not None and len(self.finished) == self.runs.seeds and score.value >= self.runs.row.least


def row_result(runs: RowRuns) -> RowResult:
    """The result of a row; if a run has other settings than the preset, no run of the row counts."""
    try:
        return RowResult(runs, tuple(run for run in runs.seed_runs() if run.score is not None), runs.why_not)
    except UsageError as error:
        return RowResult(runs, (), str(error))


def forecast(rows: Sequence[RowRuns], jobs: Sequence[Job]) -> str:
    """What will be trained, as text."""
    lines = []
    width = max(len(runs.row.name) for runs in rows)
    for runs in rows:
        mine = [job for job in jobs if job.row == runs.row.name]
        started = sum(job.started for job in mine)
        states = {"finished": runs.seeds - len(mine), "to resume": started, "to train": len(mine) - started}
        numbers = ", ".join(f"{number} {state}" for state, number in states.items() if number)
        text = in_brief(runs.why_not) or f"{runs.total_timesteps:,} steps, {runs.seeds} seeds: {numbers}"
        lines.append(f"  {runs.row.name:{width}}  {text}")
    steps = sum(job.total_timesteps for job in jobs)
    return "\n".join([*lines, f"to train: {len(jobs)} run{'s' * (len(jobs) != 1)}, {steps:,} steps"])


def score_text(job: Job) -> str:
    """The score and the training seconds of a run that has ended, as text."""
    score, seconds = read_score(job.directory, job.sampled)
    return f"{score:.1f} ({seconds:.0f} s)"


def table(results: Sequence[RowResult], width: int | None = None, whole: str = "") -> str:
    """A line for each row of the suite, in Markdown.

    With fewer columns if ``width`` is too small; ``whole`` says where all of them are.
    """
    return markdown_within(width, HEADS, [_cells(result) for result in results], KEPT, whole)


def _cells(result: RowResult) -> list[str]:
    runs, scores = result.runs, result.scores
    row = runs.row
    seeds = f"{len(scores)} of {runs.seeds}" if len(scores) < runs.seeds else str(runs.seeds)
    seconds = [run.training_seconds for run in result.finished]
    return [
        row.env,
        row.agent,
        f"{runs.total_timesteps:,}",
        seeds,
        in_words(result.score),
        f"{min(scores):.1f}" if scores else "-",
        f"{row.least:g}",
        f"{sum(score >= row.least for score in scores)} of {len(scores)}" if scores else "-",
        f"{np.median(seconds):.1f}" if scores else "-",
        "; ".join(map(in_short, row.published)) or "-",
    ]


def in_short(score: Published) -> str:
    """A published score in a few characters, such as "SB3-zoo 242.1 ± 31.8 (1M, v2)"."""
    spread = "" if score.spread is None else f" ± {score.spread:.6g}"
    steps = "" if score.total_timesteps is None else _steps(score.total_timesteps)
    details = ", ".join(filter(None, (steps, score.note)))
    return f"{score.source} {score.score:.6g}{spread}{f' ({details})' if details else ''}"


def _steps(number: int) -> str:
    return f"{number / 1e6:g}M" if number >= 1_000_000 else f"{number / 1e3:g}k"


def in_brief(problem: str) -> str:
    """A message without what follows a semicolon, such as the long list of presets that there are."""
    return problem.partition(";")[0]


def records(results: Sequence[RowResult]) -> list[dict[str, Any]]:
    """The results as plain values, ready for JSON."""
    return [_record(result) for result in results]


def _record(result: RowResult) -> dict[str, Any]:
    runs, score = result.runs, result.score
    numbers = {} if score is None else {k: None if math.isnan(v) else v for k, v in score._asdict().items()}
    return {
        "env": runs.row.env,
        "agent": runs.row.agent,
        "total_timesteps": runs.total_timesteps,
        "seeds": runs.seeds,
        "scores": {run.seed: value for run, value in zip(result.finished, result.scores, strict=True)},
        "interquartile_mean": numbers or None,
        "least": runs.row.least,
        "reached": result.reached,
        "trouble": result.problem or None,
        "run_dir": str(runs.directory),
        "published": [published._asdict() for published in runs.row.published],
    }
