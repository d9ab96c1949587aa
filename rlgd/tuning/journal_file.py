"""The file under a search: lines of JSON, which several processes read and append to, and any of them may be killed."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault
from rlgd.system import lock
from rlgd.system.files import open_regular, why

HEAD = b'{"op_code":'  # of every line


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
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StorageFault(f"{self._path} is damaged: line {number} is not JSON.") from error
        if not isinstance(record, dict) or not {"op_code", "worker_id"} <= record.keys():
            raise StorageFault(f"{self._path} is damaged: line {number} is no record of Optuna.")
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
