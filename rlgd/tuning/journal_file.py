"""The file under a search: lines of JSON, which several processes read and append to, and any of them may be killed."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from rlgd.errors import StorageFault
from rlgd.system import lock
from rlgd.system.files import open_regular, why
from rlgd.system.reading import Count, checked, parse_json

HEAD = b'{"op_code":'  # of every line


class _Record(Struct, tag_field="op_code"):
    """What Optuna replays without a look at the types; "op_code" says which record it is."""

    worker_id: str


class _CreateStudy(_Record, tag=0):
    study_name: str
    directions: Annotated[list[int], Meta(min_length=1, max_length=1)]


class _StudyAttribute(_Record, tag=2):
    study_id: Count
    user_attr: Annotated[dict[str, dict[str, Any]], Meta(min_length=1, max_length=1)]


class _CreateTrial(_Record, tag=4):
    study_id: Count
    datetime_start: str | None


class _TrialParameter(_Record, tag=5):
    trial_id: Count
    param_name: str
    param_value_internal: float
    distribution: str


class _TrialEnd(_Record, tag=6):
    trial_id: Count
    state: Count
    values: Annotated[list[float], Meta(min_length=1, max_length=1)] | None
    datetime_complete: str

    def __post_init__(self) -> None:
        if self.state == COMPLETE and self.values is None:
            raise ValueError("a complete trial has no value")


class _TrialReport(_Record, tag=7):
    trial_id: Count
    step: Count
    intermediate_value: float


class _TrialAttribute(_Record, tag=8):
    trial_id: Count
    user_attr: Annotated[dict[str, str], Meta(min_length=1, max_length=1)]


class _SamplerAttribute(_Record, tag=9):
    trial_id: Count
    system_attr: Annotated[
        dict[Annotated[str, Meta(pattern=r"^tpe:relative_params:\d+$")], str], Meta(min_length=1, max_length=1)
    ]


COMPLETE = 1  # the number of this state in Optuna
# Those that a search writes.
RECORD: Any = (
    _CreateStudy
    | _StudyAttribute
    | _CreateTrial
    | _TrialParameter
    | _TrialEnd
    | _TrialReport
    | _TrialAttribute
    | _SamplerAttribute
)


class JournalFile:
    """A backend for Optuna's ``JournalStorage``.

    Optuna's own keeps its lock when the process is killed, and cannot read a journal whose last line was cut by
    a kill or a full disk. Here a line counts when it is whole; the next append cuts the rest.

    Raises:
        OSError: if the file cannot be made, or is a link or a folder.
        StorageFault: if it is no journal.
    """

    def __init__(self, path: Path) -> None:
        file = open_regular(path, os.O_RDWR | os.O_CREAT)
        self._path, self._identity = path, _identity(file)
        head = os.pread(file, len(HEAD), 0)
        os.close(file)
        if not HEAD.startswith(head):
            raise StorageFault(f"{path} is damaged: it does not begin as a journal does.")
        self._starts = [0]  # where the lines that were read begin, and at the end the next line

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """The records from this number on.

        Raises:
            StorageFault: if the file cannot be read, or is damaged.
        """
        start = self._starts[log_number_from]
        with self._locked() as file:
            size = os.fstat(file).st_size
            if size < start:
                raise StorageFault(f"{self._path} is damaged: it is shorter than before.")
            content = os.pread(file, size - start, start)
        *lines, _ = content.split(b"\n")
        del self._starts[log_number_from + 1 :]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        return [self._record(number, line) for number, line in enumerate(lines, log_number_from + 1)]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add records to the end: all of them, or none.

        Raises:
            StorageFault: if they cannot be written.
        """
        data = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with self._locked() as file:
            end = _end_of_lines(file)
            os.ftruncate(file, end)
            try:
                written = 0
                while written < len(data):
                    written += os.pwrite(file, data[written:], end + written)
                os.fsync(file)
            except OSError:
                os.ftruncate(file, end)
                raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, which no other process reads or writes meanwhile."""
        try:
            file = open_regular(self._path, os.O_RDWR)
            try:
                lock.wait(file)
                if _identity(file) != self._identity:
                    raise StorageFault(f"{self._path} is another file now than at the beginning of the search.")
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise StorageFault(f"{self._path} cannot be written: {why(error, self._path.parent)}.") from error

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = parse_json(line, dict[str, Any])
            checked(record, RECORD)
        except ValueError as error:
            raise StorageFault(f"{self._path} is damaged, or not of rlgd: line {number}: {error}.") from error
        return record


def _identity(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_dev, status.st_ino


def _end_of_lines(file: int) -> int:
    """Where the last whole line ends."""
    size = os.fstat(file).st_size
    if not size or os.pread(file, 1, size - 1) == b"\n":
        return size
    return os.pread(file, size, 0).rfind(b"\n") + 1
