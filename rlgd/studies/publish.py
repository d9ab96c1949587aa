"""The result of a study, and the files that show it: tables, figures, TensorBoard."""

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault
from rlgd.frames import frame
from rlgd.run.sinks import tensorboard
from rlgd.run.sinks.rows import Row
from rlgd.studies import seed_statistics, tables
from rlgd.studies.arms import Arm, Point, as_label
from rlgd.studies.directory import RESULTS, SUMMARY, TENSORBOARD, TIMES
from rlgd.studies.outcome import Outcome
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult
from rlgd.system import files

CURVES = (
    "rollout/episode_return",
    "rollout/episode_length",
    "train/objective",
    "train/entropy",
    "ascent/gradient_norm",
)


@dataclasses.dataclass(frozen=True, repr=False)
class StudyResult:
    """The result of a study.

    Attributes:
        plan: the members that were trained.
        outcomes: of each member, by its number in ``plan.members``.
        study_dir: the directory of the study; None if nothing was written.
    """

    plan: Plan
    outcomes: dict[int, Outcome]
    study_dir: Path | None

    @property
    def point_results(self) -> list[list[PointResult]]:
        """For each arm the results of its points, with statistics over seeds."""
        return seed_statistics.point_results(self.plan, self.outcomes)

    def table(self) -> str:
        """A table for each arm, a row for each point, in Markdown."""
        return tables.arm_tables(self.plan, self.point_results)

    def records(self) -> list[dict[str, Any]]:
        """The content of ``results.csv``: a row for each member."""
        return tables.records(self.plan, self.outcomes)

    def times(self) -> list[dict[str, Any]]:
        """The content of ``times.csv``: the seconds of each member, which differ from one execution to the next."""
        return tables.times(self.plan, self.outcomes)

    def __repr__(self) -> str:
        question, where = self.plan.question, "" if self.study_dir is None else f", in {self.study_dir}"
        members = f"{len(self.outcomes)} of {len(self.plan.members)} members"
        return (
            f"StudyResult({question.name!r}: {question.agent} in {question.env or 'an environment'}, {members}{where})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return tables.html_tables(self.plan, self.point_results)

    def frame(self) -> Any:
        """``records()`` as a ``pandas.DataFrame``, with the number of the member as its index.

        Raises:
            UsageError: if pandas is not installed.
        """
        return frame(self.records(), "member")


def publish(result: StudyResult, directory: Path) -> None:
    """Write ``summary.md``, ``results.csv``, ``times.csv``, the figures and TensorBoard's files.

    Raises:
        StorageFault: if they cannot be written; the outcomes of finished members are kept.
    """
    from rlgd.studies import figures  # imports matplotlib, which takes a second

    plan, points = result.plan, result.point_results
    pictures = figures.draw(plan, points)
    try:
        files.replace(directory / RESULTS, tables.as_csv(result.records()))
        files.replace(directory / TIMES, tables.as_csv(result.times()))
        files.replace(directory / SUMMARY, tables.summary_page(plan, points, tuple(pictures)))
        for name, png in pictures.items():
            files.replace(directory / f"{name}.png", png)
        _write_tensorboard(result, directory, pictures)
    except OSError as error:
        reason = files.why(error, directory)
        raise StorageFault(f"the results could not be written to {directory}: {reason}.") from error


def _write_tensorboard(result: StudyResult, directory: Path, pictures: Mapping[str, bytes]) -> None:
    """A run for each member, in a group with the members that differ by their seed alone; and the figures."""
    _remove_events(files.make_folder(directory, TENSORBOARD))
    start = time.time()
    seen: set[int] = set()
    for arm, points in zip(result.plan.question.arms, result.plan.points, strict=True):
        for point, members in points:
            for member in sorted(set(members) & result.outcomes.keys() - seen):
                seen.add(member)
                _write_member(result, member, arm, point, directory, start)
    folder = files.make_folder(directory, TENSORBOARD)
    tensorboard.add_pictures(folder, {f"figures/{name}": png for name, png in pictures.items()})


def _remove_events(directory: Path) -> None:
    """Remove the event files that this study wrote before it was resumed, and the folders that are empty then."""
    for folder, _, _ in os.walk(directory, topdown=False):
        for path in tensorboard.own_files(Path(folder)):
            path.unlink()
        with contextlib.suppress(OSError):  # somebody else's files are in it
            Path(folder).rmdir()


def _write_member(result: StudyResult, member: int, arm: Arm, point: Point, directory: Path, start: float) -> None:
    outcome, seed = result.outcomes[member], result.plan.members[member].settings.seed
    group = f"{arm.name} {point.label}".strip()
    settings = {name: as_label(v) if isinstance(v, tuple) else v for name, v in point.settings.items()}
    values = ({"arm": arm.name} if arm.name else {}) | ({} if arm.axes else {"case": point.label}) | settings
    # Without leading dots: a case named ".." would lead out of the directory.
    name = re.sub(r"[^\w.=+-]+", "-", group).lstrip(".") or "all"
    folder = files.make_folder(directory, TENSORBOARD, name, f"seed{seed}")
    end = {
        "time/training_seconds": outcome.training_seconds,
        "eval/episode_return": outcome.episode_return,
        "eval/episode_length": outcome.episode_length,
    }
    rows = [*outcome.rows, Row(outcome.steps, outcome.training_seconds, end)]
    tags = [*CURVES, *end, *result.plan.question.report]
    tensorboard.write_run(folder, start, values, group, rows, tags)
