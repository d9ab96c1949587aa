"""``metrics.jsonl``: cut back to the rows that belong to a checkpoint."""

import json
import logging
from pathlib import Path

import pytest

from rlgd.run.sinks.metrics_file import MAX_LINE, cut
from rlgd.run.sinks.rows import Row

ROWS = [Row(step, step / 10, {"train/entropy": 1 / (step + 1)}) for step in (8, 16, 24)]


def line(row: Row) -> str:
    return json.dumps({"step": row.step, "seconds": row.seconds} | row.values) + "\n"


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(map(line, ROWS)))
    return path


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_the_first_rows_stay(number: int, path: Path) -> None:
    assert cut(path, number) == (ROWS[:number], number)
    assert path.read_text() == "".join(map(line, ROWS[:number]))


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert cut(tmp_path / "metrics.jsonl", 3) == ([], 0)


def test_a_torn_row_is_removed_and_the_gap_is_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("".join(map(line, ROWS))[:-5])
    assert cut(path, 3) == (ROWS[:2], 2)
    assert path.read_text() == "".join(map(line, ROWS[:2]))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{path} has lost 1 rows; the curves have a gap."


DAMAGED = [
    "[]",
    "{}",
    "not JSON",
    '{"step": "8", "x": 1}',
    '{"step": -1, "seconds": 0}',
    '{"step": 1e300, "seconds": 0}',
]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_row_counts_and_is_not_shown(damaged: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(line(ROWS[0]) + damaged + "\n" + line(ROWS[1]))
    assert cut(path, 3) == (ROWS[:2], 3)
    (message,) = caplog.messages
    assert message.startswith(f"row 2 of {path} is damaged")


def test_a_line_without_end_is_not_read_into_memory(path: Path) -> None:
    path.write_text("x" * (2 * MAX_LINE))
    assert cut(path, 1) == ([], 0)


def test_a_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="there is a symbolic link"):
        cut(tmp_path / "link", 0)
    assert path.read_text()
