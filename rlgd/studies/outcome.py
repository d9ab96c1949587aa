"""What training led to for each member of a study, in memory and in ``members.jsonl``."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault
from rlgd.run.sinks.rows import Row

ROWS = 50  # of a member's curve
DIVERGED = "diverged"  # an outcome's reason


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one member.

    Attributes:
        episode_return, episode_length: means of the greedy policy's evaluation; NaN if it was not finite either.
        steps, training_seconds: of its training; its share of the time that the program took.
        reason: what ended it, "total_timesteps", a criterion, or "diverged" with what was not finite first in ``why``.
        objective: J of its policy, where the environment can be solved exactly; else NaN.
        rows: its curve.
    """

    episode_return: float
    episode_length: float
    steps: int
    training_seconds: float
    reason: str
    why: str
    objective: float
    rows: tuple[Row, ...]


MEMBERS = "members.jsonl"


class Members:
    """The finished members of a study: a line of JSON each, on disk as soon as it is known."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / MEMBERS
        if self.path.exists():
            with self.path.open("rb+") as file:  # a line that a kill cut short goes
                file.truncate(file.read().rfind(b"\n") + 1)

    def read(self, number: int) -> dict[int, Outcome]:
        """Those that are finished, of ``number`` members."""
        outcomes = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            try:
                record = json.loads(line)
                member, rows = record.pop("member"), record.pop("rows")
                outcome = Outcome(**{k: _read(v) for k, v in record.items()}, rows=tuple(Row(*row) for row in rows))
            except (ValueError, TypeError, KeyError) as error:
                raise StorageFault(f"{self.path} is damaged: {error!r}.") from error
            if not 0 <= member < number:
                raise StorageFault(f"{self.path} has a member {member}, but the study has {number}.")
            outcomes[member] = outcome
        return outcomes

    def add(self, outcomes: dict[int, Outcome]) -> None:
        """Write what became of members.

        Raises:
            StorageFault: if it cannot be written.
        """
        text = "".join(json.dumps(_record(member, outcome)) + "\n" for member, outcome in sorted(outcomes.items()))
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageFault(f"{self.path} could not be written: {error.strerror}.") from error


def _record(member: int, outcome: Outcome) -> dict[str, Any]:
    record = {k: _written(v) for k, v in dataclasses.asdict(outcome).items() if k != "rows"}
    rows = [[row.step, row.seconds, row.values] for row in outcome.rows]
    return {"member": member} | record | {"rows": rows}


def _written(value: Any) -> Any:
    """JSON has no number for what is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(value: Any) -> Any:
    return math.nan if value is None else value
