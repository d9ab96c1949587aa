"""Writes a study's answer: tables, figures, TensorBoard."""

import dataclasses
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault
from rlgd.run.sinks import tensorboard
from rlgd.run.sinks.rows import Row
from rlgd.studies import arms as grid
from rlgd.studies import findings as findings_module
from rlgd.studies import tables
from rlgd.studies.findings import Finding
from rlgd.studies.outcome import Outcome
from rlgd.studies.plan import Plan

TENSORBOARD = "tensorboard"
CURVES = (
    "rollout/episode_return",
    "rollout/episode_length",
    "train/objective",
    "train/entropy",
    "ascent/gradient_norm",
)


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        plan: what was trained.
        outcomes: of each member, by its number in ``plan.members``.
        study_dir: where it was written, or None.
    """

    plan: Plan
    outcomes: dict[int, Outcome]
    study_dir: Path | None

    @property
    def findings(self) -> list[list[Finding]]:
        """For each arm its points, with statistics over seeds."""
        return findings_module.findings(self.plan, self.outcomes)

    def table(self) -> str:
        """The findings in Markdown."""
        return tables.tables(self.plan, self.findings)

    def records(self) -> list[dict[str, Any]]:
        """What stands in ``results.csv``: a row for each member."""
        return tables.records(self.plan, self.outcomes)


def publish(result: StudyResult, directory: Path) -> None:
    """Write the table, the rows, the figures and TensorBoard's files.

    Raises:
        StorageFault: if they cannot be written; the members that are finished are kept.
    """
    from rlgd.studies import figures  # and matplotlib, which takes a second

    plan, found = result.plan, result.findings
    pictures = figures.draw(plan, found)
    try:
        (directory / "results.csv").write_text(tables.results_csv(plan, result.outcomes), encoding="utf-8")
        (directory / "summary.md").write_text(tables.summary(plan, found, tuple(pictures)), encoding="utf-8")
        for name, png in pictures.items():
            (directory / f"{name}.png").write_bytes(png)
        _write_tensorboard(result, directory / TENSORBOARD, pictures)
    except OSError as error:
        raise StorageFault(f"what was found could not be written to {directory}: {error.strerror}.") from error


def _write_tensorboard(result: StudyResult, directory: Path, pictures: Mapping[str, bytes]) -> None:
    """A run for each member, grouped by its values, and the figures."""
    if directory.exists():
        shutil.rmtree(directory)  # all of it was written here, by an earlier part of the study
    start = time.time()
    written: set[int] = set()
    for arm, points in zip(result.plan.question.arms, result.plan.points, strict=True):
        for point, members in points:
            group = f"{arm.name} {point.label}".strip()
            shown = {name: grid.written(v) if isinstance(v, tuple) else v for name, v in point.settings.items()}
            values = ({"arm": arm.name} if arm.name else {}) | ({} if arm.axes else {"case": point.label}) | shown
            for member in sorted(set(members) & result.outcomes.keys() - written):
                written.add(member)
                outcome, seed = result.outcomes[member], result.plan.members[member].settings.seed
                folder = directory / re.sub(r"[^\w.=+-]+", "-", group) / f"seed{seed}"
                end = {"time/training_seconds": outcome.training_seconds, "eval/episode_return": outcome.episode_return,
                       "eval/episode_length": outcome.episode_length}  # fmt: skip
                rows = [*outcome.rows, Row(outcome.steps, outcome.training_seconds, end)]
                tags = [*CURVES, *end, *result.plan.question.report]
                tensorboard.write_run(folder, start, values, group, rows, tags)
    tensorboard.add_pictures(directory, {f"figures/{name}": png for name, png in pictures.items()})
