"""The results of a reproduction: rlgd's scores beside the published ones, in Markdown and as plain values."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlgd import hyperparameters
from rlgd.envs import DeviceEnv
from rlgd.errors import StorageFault, UsageError
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval, in_words
from rlgd.reproduction.jobs import EPISODES, Job
from rlgd.reproduction.runs import RowRuns, SeedRun, read_score
from rlgd.reproduction.suite import Published, ScoreSuite
from rlgd.run import config_file
from rlgd.system import files
from rlgd.tables import markdown_within

WRITTEN_BY = "Written by `rlgd reproduce"  # so a table that rlgd wrote, and may replace, is recognized
HEADS = (
    *("environment", "agent", "steps", "seeds", "rlgd", "worst", "required", "seeds reaching it", "seconds"),
    "published",
)
PRESETS, BY_RULE = "The presets (`rlgd list presets`)", "By rule, as `rlgd train --auto` chooses them"
KEPT = ("environment", "agent", "rlgd", "required")  # columns, also on narrow terminals


def automatic(name: str, root: Path, in_docs: bool) -> Path:
    """The default path of a suite's table.

    Args:
        name: of the suite.
        root: the directory of the suite's runs.
        in_docs: write to ``docs/`` if the working directory is a checkout of rlgd; otherwise to ``root``.
    """
    checkout = Path(__file__).resolve().parents[2]
    folder = Path("docs") if in_docs and Path.cwd() == checkout and Path("docs").is_dir() else root
    return folder / f"reproduce-{name}.md"


def make_room(path: Path) -> None:
    """Make the folder of the table, so that a path that cannot be written is found before training.

    Raises:
        UsageError: if the folder cannot be made, or is not writable, or there is a file that is no table of rlgd's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.check_regular(path)
        is_free = not path.exists() or _is_table(path)
    except OSError as error:
        raise UsageError(f"the table {path} cannot be written: {error.strerror}.") from error
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the table {path} cannot be written; name another file with --out.")
    if not is_free:
        raise UsageError(f"{path} is in the way, and is no table of rlgd's; name another file with --out.")


def _is_table(path: Path) -> bool:
    with path.open("rb") as file:
        return WRITTEN_BY.encode() in file.read(1000)


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
        text = _reason(runs.why_not) or f"{runs.total_timesteps:,} steps, {runs.seeds} seeds: {numbers}"
        lines.append(f"  {runs.row.name:{width}}  {text}")
    steps = sum(job.total_timesteps for job in jobs)
    return "\n".join([*lines, f"to train: {len(jobs)} run{'s' * (len(jobs) != 1)}, {steps:,} steps"])


def score_text(job: Job) -> str:
    """The score and the training seconds of a run that has ended, as text."""
    score, seconds = read_score(job.directory, job.sampled)
    return f"{score:.1f} ({seconds:.0f} s)"


def write(path: Path, suite: ScoreSuite, results: Sequence[RowResult], auto: bool = False) -> None:
    """Write the page of results; ``auto`` says that the settings are those by rule.

    Raises:
        StorageFault: if it cannot be written.
    """
    try:
        files.replace(path, page(suite, results, auto))
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {files.why(error, path.parent)}") from error


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


def page(suite: ScoreSuite, results: Sequence[RowResult], auto: bool = False) -> str:
    """The table, its sources and the settings, in Markdown."""
    used = {score.source for row in suite.rows for score in row.published}
    notes = [
        f"rlgd: the mean return of {_whose(suite)} over {EPISODES} episodes {_where(results)}, different episodes for "
        f"each seed; interquartile mean over seeds with its {confidence.CONFIDENCE:.0%} bootstrap interval. "
        "Seconds: of training, the median.",
        *(f"{name}: {text}." for name, text in suite.sources.items() if name in used),
    ]
    parts = [
        f"# {suite.title}",
        f"{WRITTEN_BY} {suite.name}{' --auto' * auto}`{_versions_and_devices(results)}. {suite.caption}",
        table(results),
        "\n".join(f"- {note}" for note in notes),
        f"## Settings\n\n{BY_RULE if auto else PRESETS}; a setting that is not named has the agent's default.",
        "\n".join(f"- {result.runs.row.env}, {result.runs.row.agent}: {_settings(result)}" for result in results),
    ]
    return "\n\n".join(parts) + "\n"


def _whose(suite: ScoreSuite) -> str:
    """The policy that is scored."""
    explores = [row.name for row in suite.rows if row.sampled]
    return "the greedy policy" + (f" (in {', '.join(explores)}: of the policy as it explores)" if explores else "")


def _where(results: Sequence[RowResult]) -> str:
    """Where the suite's policies are scored: in Gymnasium, unless it does not have the environments."""
    configs = [result.runs.config for result in results if result.runs.config is not None]
    return (
        "on the device" if any(isinstance(config.evaluation_env, DeviceEnv) for config in configs) else "in Gymnasium"
    )


def _versions_and_devices(results: Sequence[RowResult]) -> str:
    """The versions and devices that the runs were trained with."""
    where = set()
    for result in results:
        for run in result.finished:
            config = config_file.read_config(run.directory)
            versions = ", ".join(f"{name} {config['versions'][name]}" for name in ("rlgd", "jax", "gymnasium"))
            where.add(f"{versions} on {config['device']}")
    return f": {'; '.join(sorted(where))}" if where else ""


def _settings(result: RowResult) -> str:
    config = result.runs.config
    if config is None:
        return f"not trained, {_reason(result.problem)}"
    text = (
        ", ".join(f"{name}={value}" for name, value in hyperparameters.changed(config.agent).items())
        or "the agent's defaults"
    )
    return f"{text}{f'; not counted, {result.problem}' if result.problem else ''}"


def _reason(problem: str) -> str:
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
