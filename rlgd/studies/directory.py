"""A study's directory and its ``study.json``, which holds the question."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from rlgd.errors import StorageFault, UsageError
from rlgd.run import config_file, layout
from rlgd.studies.question import Question
from rlgd.system import files, lock, machine, reading

FORMAT_VERSION = 1
# The names in a study's directory. ``study.json`` comes first, and makes the others the study's.
STUDY, MEMBERS, SPEED, RESULTS, TIMES, SUMMARY, TENSORBOARD, MEMBER_CURVES, JOBS = (
    "study.json", "members.jsonl", "speed.json", "results.csv", "times.csv", "summary.md", "tensorboard", "members",
    "jobs",
)  # fmt: skip
# Each with ".png".
FIGURES = (
    "normalized-return", "normalized-time", "performance-profiles",
    "return-against-steps", "return-against-seconds", "return-by-value", "surface",
)  # fmt: skip


class _Content(TypedDict):
    """The types in ``study.json``."""

    question: dict[str, Any]
    exact: bool
    slice_size: NotRequired[int | None]


def automatic(root: Path, name: str) -> Path:
    """``root/studies/<name>/<time>``, with a suffix if this folder exists."""
    return layout.timed(root / "studies" / name)


@contextlib.contextmanager
def writing(
    directory: Path, question: Question, exact: bool, resumed: bool, slice_size: int | None = None
) -> Iterator[None]:
    """The right to write in a study's directory, which one process has at a time.

    Args:
        directory: of the study; it is made, with the question in it, unless it is ``resumed``.
        question, exact: of the study.
        resumed: the directory holds the study already.
        slice_size: of the study; None if it was not given.

    Raises:
        UsageError: if it holds a study already, or files that no study wrote; if another process writes in it, or it
            cannot be made.
    """
    _refuse_others(directory, resumed)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    with lock.held(directory):
        _refuse_others(directory, resumed)  # again: another process may have been here meanwhile
        if not resumed:
            _write_question(directory, question, exact, slice_size)
        yield


def _refuse_others(directory: Path, resumed: bool) -> None:
    names = (MEMBERS, SPEED, RESULTS, TIMES, SUMMARY, *(f"{name}.png" for name in FIGURES))
    files.check_own(directory, STUDY, names, "study", folders=(TENSORBOARD, MEMBER_CURVES, JOBS))
    if (directory / STUDY).exists() and not resumed:
        raise UsageError(
            f"{directory} already holds a study; resume it with `rlgd study resume {shlex.quote(str(directory))}`, or "
            "name another directory."
        )


def _write_question(directory: Path, question: Question, exact: bool, slice_size: int | None) -> None:
    content = {
        "format_version": FORMAT_VERSION,
        "question": question.to_json(),
        "exact": exact,
        "slice_size": slice_size,
        "device": machine.device_name(),
        "versions": config_file.versions(),
    }
    try:
        files.write_json(directory / STUDY, content)
    except OSError as error:
        raise _cannot_write(directory, error) from error


def _cannot_write(directory: Path, error: OSError) -> UsageError:
    return UsageError(f"the study's directory {directory} cannot be written: {error.strerror}.")


def read(directory: Path) -> tuple[Question, dict[str, Any]]:
    """The question of a study, and the whole content of ``study.json``.

    Raises:
        UsageError: if the directory holds no study, or one in another format.
        StorageFault: if ``study.json`` is damaged.
    """
    content = reading.read_versioned(directory / STUDY, "study", FORMAT_VERSION)
    try:
        file = reading.checked(content, _Content)
    except ValueError as error:
        raise StorageFault(f"{directory / STUDY} is damaged: {error}.") from error
    return Question.from_json(file["question"], STUDY), content


def recorded_slice_size(directory: Path, content: dict[str, Any], given: int | None) -> int | None:
    """The slice size that the members of a study have in common; its ``content`` is what ``read`` returns.

    Raises:
        UsageError: if another one is given: the new members would not be comparable to the last bit.
    """
    recorded: int | None = content.get("slice_size")
    if given not in (None, recorded):
        began = "without a slice_size" if recorded is None else f"with slice_size {recorded}"
        raise UsageError(f"slice_size is {given}, but {directory} was begun {began}; leave it out.")
    return recorded
