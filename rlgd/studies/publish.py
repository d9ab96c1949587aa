"""The result of a study, and the files that show it: tables, figures, TensorBoard."""

import dataclasses
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault
from rlgd.frames import frame
from rlgd.run.sinks import tensorboard
from rlgd.studies import board, member_curves, page, seed_statistics, tables
from rlgd.studies.directory import MEMBER_CURVES, RESULTS, SUMMARY, TIMES
from rlgd.studies.outcome import Outcome
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult
from rlgd.studies.speed import Speed
from rlgd.system import files


@dataclasses.dataclass(frozen=True, repr=False)
class StudyResult:
    """The result of a study.

    Attributes:
        plan: the members that were trained.
        outcomes: of each member, by its number in ``plan.members``.
        study_dir: the directory of the study; None if nothing was written.
        speeds: what a member of each of ``plan.device_groups`` costs alone.
    """

    plan: Plan
    outcomes: dict[int, Outcome]
    study_dir: Path | None
    speeds: tuple[Speed, ...] = ()

    @property
    def point_results(self) -> list[list[PointResult]]:
        """For each arm the results of its points, with statistics over seeds."""
        return seed_statistics.point_results(self.plan, self.outcomes)

    def table(self, width: int | None = None) -> str:
        """A table for each arm, a row for each point, in Markdown; first those over several environments.

        Tables have fewer columns where ``width`` is too small for all.
        """
        points = self.point_results
        parts = (tables.overall_tables(self.plan, points, width), tables.arm_tables(self.plan, points, width))
        return "\n\n".join(part for part in parts if part)

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


def publish(result: StudyResult, directory: Path, members: bool = False) -> None:
    """Write ``summary.md``, ``results.csv``, ``times.csv``, the figures, and the answer for TensorBoard.

    Args:
        result: of the study.
        directory: of the study.
        members: write the curves of each member, too; without, those of an earlier time are removed.

    Raises:
        StorageFault: if they cannot be written; the outcomes of finished members are kept.
    """
    from rlgd.studies import figures  # imports matplotlib, which takes a second

    plan, points = result.plan, result.point_results
    pictures = figures.draw(plan, points)
    try:
        files.replace(directory / RESULTS, tables.as_csv(result.records()))
        files.replace(directory / TIMES, tables.as_csv(result.times()))
        files.replace(directory / SUMMARY, page.summary_page(plan, points, tuple(pictures), result.speeds))
        for name, png in pictures.items():
            files.replace(directory / f"{name}.png", png)
        board.write_answer(plan, points, pictures, directory)
        tensorboard.remove_runs(directory / MEMBER_CURVES)
        if members:
            member_curves.write(plan, result.outcomes, directory)
    except OSError as error:
        reason = files.why(error, directory)
        raise StorageFault(f"the results could not be written to {directory}: {reason}.") from error
