"""The outcome of training one member of a study, in memory and in ``members.jsonl``."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from rlgd.errors import StorageFault
from rlgd.run.sinks.rows import Row
from rlgd.studies.directory import MEMBERS
from rlgd.system import files
from rlgd.system.reading import Count, parse_json

ROWS = 50  # in the curve of a member
DIVERGED = "diverged"  # as the reason of an outcome


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of training one member.

    Attributes:
        episode_return: mean of the greedy policy's evaluation; NaN if it is not finite.
        episode_length: the same for the length of episodes, in steps.
        steps: environment steps of training.
        iterations: of training; 0 for a member that an earlier version trained, which did not count them.
        training_seconds: in ``members.jsonl`` the member's share of the time that its slice took; in the results what
            it takes alone, see ``rlgd.studies.speed``.
        reason: what ended training: "total_timesteps", a stopping criterion, or "diverged".
        why: details of the reason, such as the first quantity that was not finite.
        objective: the exact J of the policy, if the environment can be solved exactly; else NaN.
        rows: the training curve.
    """

    episode_return: float
    episode_length: float
    steps: int
    training_seconds: float
    reason: str
    why: str
    objective: float
    rows: tuple[Row, ...]
    iterations: int = 0


# Takes the outcomes of members that have finished, by number.
OnFinished: TypeAlias = Callable[[dict[int, Outcome]], None]


@dataclasses.dataclass
class _Record:
    """A line of ``members.jsonl``. JSON has no NaN and no infinity: null in their place."""

    member: int
    episode_return: float | None
    episode_length: float | None
    steps: Count
    training_seconds: float | None
    reason: str
    why: str
    objective: float | None
    rows: list[tuple[Count, float, dict[str, float]]]
    iterations: Count = 0

    @classmethod
    def of(cls, member: int, outcome: Outcome) -> "_Record":
        """The line of a member."""
        values: dict[str, Any] = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(outcome).items()
        }
        rows = [(row.step, row.seconds, row.values) for row in outcome.rows]
        return cls(member, **values | {"rows": rows})

    def outcome(self) -> Outcome:
        """The outcome of the member."""
        values: dict[str, Any] = {name: math.nan if value is None else value for name, value in vars(self).items()}
        del values["member"]
        return Outcome(**values | {"rows": tuple(Row(*row) for row in self.rows)})


class OutcomeFile:
    """``members.jsonl``: one line of JSON for each finished member, on disk as soon as the outcome is known.

    Raises:
        StorageFault: if the file cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / MEMBERS
        with self._faults_named():
            self._file = files.Appender(self.path)
            with self.path.open("rb+") as file:  # remove a last line that a kill left incomplete
                file.truncate(file.read().rfind(b"\n") + 1)

    def read(self, number: int) -> dict[int, Outcome]:
        """The outcomes of finished members, by number, in a study of ``number`` members.

        Raises:
            StorageFault: if the file is damaged.
        """
        outcomes = {}
        with self._faults_named():
            content = self.path.read_bytes()
        for line in content.split(b"\n")[:-1]:
            try:
                record = parse_json(line, _Record)
            except ValueError as error:
                raise StorageFault(f"{self.path} is damaged: {error}.") from error
            if record.member not in range(number):
                raise StorageFault(f"{self.path} has a member {record.member}, but the study has {number}.")
            outcomes[record.member] = record.outcome()
        return outcomes

    def add(self, outcomes: dict[int, Outcome]) -> None:
        """Append the outcomes of members that have finished.

        Raises:
            StorageFault: if the file cannot be written.
        """
        text = "".join(
            json.dumps(vars(_Record.of(member, outcome))) + "\n" for member, outcome in sorted(outcomes.items())
        )
        self._file.append(text.encode())
        if self._file.fault is not None:
            raise StorageFault(f"{self._file.fault}.")
        with self._faults_named():
            self._file.sync()

    def close(self) -> None:
        """Close the file.

        Raises:
            StorageFault: if its content may not be on the disk.
        """
        with self._faults_named():
            self._file.close()

    @contextlib.contextmanager
    def _faults_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFault(f"{self.path} cannot be written: {files.why(error, self.path.parent)}.") from error
