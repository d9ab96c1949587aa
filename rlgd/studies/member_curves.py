"""The curves of a study's members in TensorBoard: a run for each, in a group with those that differ by their seed."""

import time
from collections.abc import Mapping
from pathlib import Path

from rlgd.run.sinks import tensorboard
from rlgd.run.sinks.rows import Row
from rlgd.studies.arms import Arm, Point, as_label
from rlgd.studies.board import folder_name
from rlgd.studies.directory import MEMBER_CURVES
from rlgd.studies.outcome import Outcome
from rlgd.studies.plan import Plan
from rlgd.system import files

CURVES = (
    "rollout/episode_return",
    "rollout/episode_length",
    "train/objective",
    "train/entropy",
    "ascent/gradient_norm",
)


def write(plan: Plan, outcomes: Mapping[int, Outcome], directory: Path) -> None:
    """Write ``members/`` in the study's directory.

    Raises:
        OSError: if it cannot be written.
    """
    start = time.time()
    seen: set[int] = set()
    for arm, points in zip(plan.question.arms, plan.points, strict=True):
        for point, members in points:
            for member in sorted(set(members) & outcomes.keys() - seen):
                seen.add(member)
                _write_member(plan, member, outcomes[member], arm, point, directory, start)


def _write_member(
    plan: Plan, member: int, outcome: Outcome, arm: Arm, point: Point, directory: Path, start: float
) -> None:
    group = f"{arm.title} {point.label}".strip()
    settings = {name: as_label(v) if isinstance(v, tuple) else v for name, v in point.settings.items()}
    values = ({"arm": arm.title} if arm.title else {}) | ({} if arm.axes else {"case": point.label}) | settings
    seed = plan.members[member].settings.seed
    folder = files.make_folder(directory, MEMBER_CURVES, folder_name(group), f"seed{seed}")
    end = {
        "time/training_seconds": outcome.training_seconds,
        "eval/episode_return": outcome.episode_return,
        "eval/episode_length": outcome.episode_length,
    }
    rows = [*outcome.rows, Row(outcome.steps, outcome.training_seconds, end)]
    tags = [*CURVES, *end, *plan.question.report]
    tensorboard.write_run(folder, start, values, group, rows, tags)
