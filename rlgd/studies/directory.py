"""A study's directory and its ``study.json``, which holds the question."""

import json
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault, UsageError
from rlgd.run import config_file, layout
from rlgd.studies.question import Question
from rlgd.system import machine, reading

FORMAT_VERSION = 1
STUDY = "study.json"


def automatic(root: Path, name: str) -> Path:
    """``root/studies/<name>/<time>``, with a suffix if this folder exists."""
    return layout.timed(root / "studies" / name)


def create(directory: Path, question: Question, exact: bool) -> None:
    """Make the directory and write the question.

    Raises:
        UsageError: if the directory holds a study already, or cannot be made.
    """
    if (directory / STUDY).exists():
        raise UsageError(
            f"{directory} already holds a study; resume it with `rlgd study resume {directory}`, or name another "
            "directory."
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
    """The question of a study, and the whole content of ``study.json``.

    Raises:
        UsageError: if the directory holds no study, or one in another format.
        StorageFault: if ``study.json`` is damaged.
    """
    content = reading.read_versioned(directory / STUDY, "study", FORMAT_VERSION)
    try:
        return Question.from_json(content["question"], content["question"]["name"]), content
    except (KeyError, TypeError) as error:
        raise StorageFault(f"{directory / STUDY} is damaged: {error!r}.") from error
