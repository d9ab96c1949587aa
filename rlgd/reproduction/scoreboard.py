"""What a reproduction found: rlgd's scores beside the published ones, in Markdown and as plain numbers."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlgd.errors import StorageFault, UsageError
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval, in_words
from rlgd.reproduction.jobs import EPISODES, Job
from rlgd.reproduction.plan import Plan, Seed, read_score
from rlgd.reproduction.suite import Published, Suite
from rlgd.run import config_file
from rlgd.run.description import changed_hyperparameters
from rlgd.system import files
from rlgd.tables import markdown

HEADS = ("environment", "agent", "steps", "seeds", "rlgd", "worst", "asked", "seeds with that", "seconds", "published")


def automatic(name: str, root: Path, by_itself: bool) -> Path:
    """Where a suite's table goes: to the documents of the checkout that this is, or beside the runs in ``root``.

    Runs that are not ``by_itself`` where they are, but where the user has them, keep their table.
    """
    checkout = Path(__file__).resolve().parents[2]
    docs = Path("docs") if by_itself and Path.cwd() == checkout and Path("docs").is_dir() else root
    return docs / f"reproduce-{name}.md"


def make_room(path: Path) -> None:
    """Make the folder of a file that will be written when all is trained.

    Raises:
        UsageError: if it cannot be made, or written in.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the table {path} cannot be written: {error.strerror}.") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"the table {path} cannot be written; name another file by --out.")


def write(path: Path, suite: Suite, findings: "Sequence[Finding]") -> None:
    """Write the table.

    Raises:
        StorageFault: if it cannot be written.
    """
    try:
        files.replace(path, document(suite, findings))
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {files.why(error, path.parent)}") from error


def forecast(plans: Sequence[Plan], jobs: Sequence[Job]) -> str:
    """What will be trained."""
    rows = []
    for plan in plans:
        mine = [job for job in jobs if job.row == plan.row.name]
        going_on = sum(job.begun for job in mine)
        states = {"finished": plan.seeds - len(mine), "to go on with": going_on, "to train": len(mine) - going_on}
        text = ", ".join(f"{number} {state}" for state, number in states.items() if number)
        rows.append((plan.row.name, plan.why_not or f"{plan.total_timesteps:,} steps, {plan.seeds} seeds: {text}"))
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:{width}}  {text}" for name, text in rows]
    steps = sum(job.total_timesteps for job in jobs)
    return "\n".join([*lines, f"to train: {len(jobs)} run{'s' * (len(jobs) != 1)}, {steps:,} steps"])


def outcome(job: Job) -> str:
    """What a run that has ended gave."""
    score, seconds = read_score(job.directory)
    return f"{score:.1f} ({seconds:.0f} s)"


class Finding(NamedTuple):
    """A row and its finished seeds; ``trouble`` says why they do not count, if they do not."""

    plan: Plan
    seeds: tuple[Seed, ...]
    trouble: str = ""

    @property
    def scores(self) -> list[float]:
        """The mean return of each seed's greedy policy."""
        return [seed.score for seed in self.seeds if seed.score is not None]

    @property
    def score(self) -> Interval | None:
        """Their interquartile mean, with its interval."""
        return confidence.interval(self.scores) if self.seeds else None

    @property
    def reached(self) -> bool:
        """Whether all seeds are finished, and their interquartile mean is what is asked."""
        score = self.score
        return score is not None and len(self.seeds) == self.plan.seeds and score.value >= self.plan.row.least


def found(plan: Plan) -> Finding:
    """What there is of a row; seeds with other settings count for nothing."""
    try:
        return Finding(plan, tuple(seed for seed in plan.states() if seed.score is not None), plan.why_not)
    except UsageError as error:
        return Finding(plan, (), str(error))


def table(findings: Sequence[Finding]) -> str:
    """The findings in Markdown."""
    return markdown(HEADS, [_cells(finding) for finding in findings])


def _cells(finding: Finding) -> list[str]:
    plan, scores = finding.plan, finding.scores
    row = plan.row
    few = f"{len(scores)} of {plan.seeds}" if len(scores) < plan.seeds else str(plan.seeds)
    seconds = [seed.training_seconds for seed in finding.seeds]
    return [
        row.env,
        row.agent,
        f"{plan.total_timesteps:,}",
        few,
        in_words(finding.score),
        f"{min(scores):.1f}" if scores else "-",
        f"{row.least:g}",
        f"{sum(score >= row.least for score in scores)} of {len(scores)}" if scores else "-",
        f"{np.median(seconds):.1f}" if scores else "-",
        "; ".join(map(in_short, row.published)),
    ]


def in_short(score: Published) -> str:
    """A published score in a few characters: SB3-zoo 242.1 ± 31.8 (1M, v2)."""
    spread = "" if score.spread is None else f" ± {score.spread:.6g}"
    of = [] if score.total_timesteps is None else [_steps(score.total_timesteps)]
    about = ", ".join([*of, score.note] if score.note else of)
    return f"{score.source} {score.score:.6g}{spread}{f' ({about})' if about else ''}"


def _steps(number: int) -> str:
    return f"{number / 1e6:g}M" if number >= 1_000_000 else f"{number / 1e3:g}k"


def document(suite: Suite, findings: Sequence[Finding]) -> str:
    """The findings as a page."""
    used = {score.source for row in suite.rows for score in row.published}
    notes = [
        f"rlgd: the mean return of the greedy policy over {EPISODES} episodes in Gymnasium, other ones for each "
        f"seed; interquartile mean over seeds with its {confidence.CONFIDENCE:.0%} bootstrap interval. Seconds: of "
        "training, the median.",
        *(f"{name}: {text}." for name, text in suite.sources.items() if name in used),
    ]
    parts = [
        f"# {suite.title}",
        f"Written by `rlgd reproduce {suite.name}`{_measured(findings)}. {suite.caption}",
        table(findings),
        "\n".join(f"- {note}" for note in notes),
        "## Settings\n\nThe presets (`rlgd list presets`); what is not named is the agent's default.",
        "\n".join(f"- {finding.plan.row.env}, {finding.plan.row.agent}: {_settings(finding)}" for finding in findings),
    ]
    return "\n\n".join(parts) + "\n"


def _measured(findings: Sequence[Finding]) -> str:
    """On what, and with which versions."""
    where = set()
    for finding in findings:
        for seed in finding.seeds:
            config = config_file.read_config(seed.directory)
            versions = ", ".join(f"{name} {config['versions'][name]}" for name in ("rlgd", "jax", "gymnasium"))
            where.add(f"{versions} on {config['device']}")
    return f": {'; '.join(sorted(where))}" if where else ""


def _settings(finding: Finding) -> str:
    settings = finding.plan.settings
    if settings is None:
        return f"not trained, {finding.trouble}"
    changed = changed_hyperparameters(settings.agent)
    text = ", ".join(f"{name}={value}" for name, value in changed.items()) or "the agent's defaults"
    return f"{text}{f'; not counted, {finding.trouble}' if finding.trouble else ''}"


def records(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings as plain values, ready for JSON."""
    return [_record(finding) for finding in findings]


def _record(finding: Finding) -> dict[str, Any]:
    plan, score = finding.plan, finding.score
    numbers = {} if score is None else {k: None if math.isnan(v) else v for k, v in score._asdict().items()}
    return {
        "env": plan.row.env,
        "agent": plan.row.agent,
        "total_timesteps": plan.total_timesteps,
        "seeds": plan.seeds,
        "scores": {seed.number: value for seed, value in zip(finding.seeds, finding.scores, strict=True)},
        "interquartile_mean": numbers or None,
        "least": plan.row.least,
        "reached": finding.reached,
        "trouble": finding.trouble or None,
        "run_dir": str(plan.directory),
        "published": [published._asdict() for published in plan.row.published],
    }
