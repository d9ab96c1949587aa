"""What a study's directory holds while it runs: what was asked, and a line for each member that is finished."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from rlgd import rundir
from rlgd.errors import StorageFault, UsageError
from rlgd.grid import Question
from rlgd.records import Row
from rlgd.stack import Outcome

FORMAT_VERSION = 1
STUDY, MEMBERS = "study.json", "members.jsonl"


def automatic(root: Path, name: str) -> Path:
    """``root/studies/<name>/<time>``, with a suffix if that is taken."""
    return rundir.timed(root / "studies" / name)


def create(directory: Path, question: Question, exact: bool) -> None:
    """Make the directory and write what is asked.

    Raises:
        UsageError: if it holds a study, or cannot be made.
    """
    if (directory / STUDY).exists():
        raise UsageError(
            f"{directory} already holds a study; go on with it by `rlgd study resume {directory}`, or name another."
        )
    content = {
        "format_version": FORMAT_VERSION,
        "question": question.to_json(),
        "exact": exact,
        "device": rundir.device_name(),
        "versions": rundir.versions(),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / STUDY).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the study's directory {directory} cannot be written: {error.strerror}.") from error


def read(directory: Path) -> tuple[Question, dict[str, Any]]:
    """What is asked, and all of ``study.json``.

    Raises:
        UsageError: if there is no study, or it is of another format.
        StorageFault: if it is damaged.
    """
    content = rundir.read_versioned(directory / STUDY, "study", FORMAT_VERSION)
    try:
        return Question.of(content["question"], content["question"]["name"]), content
    except (KeyError, TypeError) as error:
        raise StorageFault(f"{directory / STUDY} is damaged: {error!r}.") from error


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
