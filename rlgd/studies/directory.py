"""What a study's directory holds while it runs: what was asked, and a line for each member that is finished."""

import json
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault, UsageError
from rlgd.run import config_file, layout
from rlgd.studies.question import Question
from rlgd.system import files, machine

FORMAT_VERSION = 1
STUDY = "study.json"


def automatic(root: Path, name: str) -> Path:
    """``root/studies/<name>/<time>``, with a suffix if that is taken."""
    return layout.timed(root / "studies" / name)


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
        "device": machine.device_name(),
        "versions": config_file.versions(),
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
    content = files.read_versioned(directory / STUDY, "study", FORMAT_VERSION)
    try:
        return Question.of(content["question"], content["question"]["name"]), content
    except (KeyError, TypeError) as error:
        raise StorageFault(f"{directory / STUDY} is damaged: {error!r}.") from error
