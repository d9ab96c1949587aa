"""``metrics.jsonl``: the curves of a run, one row a line."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from rlgd.run.sinks.rows import Row
from rlgd.system.files import open_regular
from rlgd.system.reading import parse_json

log = logging.getLogger("rlgd")

MAX_LINE = 2**20  # bytes of a row


def record(row: Row) -> dict[str, float]:
    """A row as an object of JSON."""
    return {"step": row.step, "seconds": row.seconds} | row.values


def parsed(line: bytes) -> Row:
    """The row of a line.

    Raises:
        ValueError: if it has none.
    """
    values = parse_json(line, dict[str, float])
    try:
        step, seconds = values.pop("step"), values.pop("seconds")
    except KeyError as missing:
        raise ValueError(f"{missing} is missing") from missing
    if not 0 <= step < 2**63 or not all(name.encode() for name in values):
        raise ValueError("a step out of range, or a metric without a name")
    return Row(int(step), seconds, values)


def cut(path: Path, number: int) -> tuple[list[Row], int]:
    """Keep only the first ``number`` rows of a file; returns those that can be read, and how many rows are left."""
    rows: list[Row] = []
    lines = size = 0
    if not path.exists():
        return rows, lines
    with os.fdopen(open_regular(path, os.O_RDWR), "rb+") as file:
        while lines < number and (line := file.readline(MAX_LINE)).endswith(b"\n"):
            lines, size = lines + 1, size + len(line)
            try:
                rows.append(parsed(line))
            except ValueError:
                log.warning("row %d of %s is damaged; TensorBoard does not show it.", lines, path)
        file.truncate(size)
    if lines < number:
        log.warning("%s has lost %d rows; the curves have a gap.", path, number - lines)
    return rows, lines


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file that another process may be writing; those that cannot be read are left out."""
    try:
        descriptor = open_regular(path, os.O_RDONLY)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        while (line := file.readline(MAX_LINE)).endswith(b"\n"):
            with contextlib.suppress(ValueError):
                yield parsed(line)
