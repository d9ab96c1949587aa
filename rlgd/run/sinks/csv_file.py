"""``metrics.csv``: the curves of a run as a table, a column for each metric."""

import contextlib
import csv
import io
import os
from pathlib import Path
from typing import TextIO

from rlgd.run.config import RunConfig
from rlgd.run.layout import METRICS, TABLE
from rlgd.run.sinks.metrics_file import parsed, record
from rlgd.run.sinks.rows import Row
from rlgd.system import files

FIRST = ("step", "seconds")  # columns
MAX_HEAD = 100  # bytes


class CSV:
    """Writes the rows of ``metrics.jsonl``, which is cut where a run is resumed, as a table.

    A metric that comes up later, such as an evaluation, gets a column at the end: then the table is written again.

    Raises:
        OSError: if the table cannot be written; the run reports it, and ``metrics.jsonl`` has the rows.
    """

    name, needs_directory = "csv", True

    def begin(self, config: RunConfig, run_dir: Path | None) -> None:
        """Write the rows that the run has already."""
        assert run_dir is not None
        self._path = run_dir / TABLE
        if os.path.lexists(self._path) and not is_own(self._path):
            raise FileExistsError(f"{self._path} is in the way, and was not written by a run")
        self._records: list[dict[str, float]] = []
        for line in (run_dir / METRICS).read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # damage, which the run has named
                self._records.append(record(parsed(line)))
        self._write_again()

    def write(self, row: Row) -> None:
        """Add a row."""
        new = record(row)
        self._records.append(new)
        if not new.keys() <= {*self._columns}:
            self._write_again()
            return
        text = io.StringIO()
        self._writer(text).writerow(new)
        files.append(self._path, text.getvalue())

    def _write_again(self) -> None:
        self._columns = list(dict.fromkeys([*FIRST, *(name for each in self._records for name in each)]))
        text = io.StringIO()
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(self._records)
        files.replace(self._path, text.getvalue())

    def _writer(self, file: TextIO) -> "csv.DictWriter[str]":
        return csv.DictWriter(file, self._columns, lineterminator="\n")


def is_own(path: Path) -> bool:
    """Whether a file is a table as this sink writes it."""
    if not path.is_file() or path.is_symlink():
        return False
    with path.open("rb") as file:
        return file.read(MAX_HEAD).startswith(",".join(FIRST).encode())
