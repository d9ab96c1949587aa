"""The file under a search: lines that a kill or a full disk cut, and files that are gone or changed."""

import os
import resource
import threading
from pathlib import Path
from typing import Any

import pytest

from rlgd.errors import StorageFault
from rlgd.tuning.journal_file import JournalFile


def record(number: int, text: str = "") -> dict[str, Any]:
    return {"op_code": 8, "worker_id": "w", "trial_id": number, "user_attr": {"why": text}}


def numbers(file: JournalFile, start: int = 0) -> list[int]:
    return [line["trial_id"] for line in file.read_logs(start)]


def test_records_are_read_from_any_number_on(tmp_path: Path) -> None:
    one, other = JournalFile(tmp_path / "log"), JournalFile(tmp_path / "log")
    one.append_logs([record(0), record(1)])
    assert numbers(other) == [0, 1]
    other.append_logs([record(2)])
    assert numbers(other, 2) == [2]
    assert numbers(other, 1) == [1, 2]
    assert numbers(one) == [0, 1, 2]


@pytest.mark.parametrize("left", [1, 15, 30])
def test_a_torn_last_line_is_no_record_and_the_next_append_cuts_it(left: int, tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "log")
    file.append_logs([record(0)])
    file.append_logs([record(1)])
    whole = (tmp_path / "log").read_bytes()
    length = len(whole) // 2
    os.truncate(tmp_path / "log", length + min(left, length - 1))
    again = JournalFile(tmp_path / "log")
    assert numbers(again) == [0]
    again.append_logs([record(1)])
    assert (tmp_path / "log").read_bytes() == whole


def test_the_first_line_may_be_torn_too(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b'{"op_c')
    file = JournalFile(tmp_path / "log")
    assert numbers(file) == []
    file.append_logs([record(7)])
    assert numbers(file) == [7]


def test_a_record_that_does_not_fit_is_not_written_at_all(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "log")
    file.append_logs([record(0)])
    before = (tmp_path / "log").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(StorageFault, match=r"log cannot be written: File too large; .* bytes are free"):
            file.append_logs([record(1, text="x" * 100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "log").read_bytes() == before
    file.append_logs([record(1)])
    assert numbers(file) == [0, 1]


def test_a_file_that_is_gone_changed_or_cut_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = JournalFile(path)
    file.append_logs([record(0)])
    assert numbers(file) == [0]
    os.truncate(path, 0)
    with pytest.raises(StorageFault, match="shorter than before"):
        file.read_logs(1)
    path.rename(tmp_path / "moved")
    with pytest.raises(StorageFault, match="No such file"):
        file.append_logs([record(1)])
    path.write_bytes(b"")
    with pytest.raises(StorageFault, match="another file now"):
        file.append_logs([record(1)])
    assert path.read_bytes() == b""


@pytest.mark.parametrize("kind", ["link", "folder", "FIFO"])
def test_only_a_regular_file_is_a_journal(kind: str, tmp_path: Path) -> None:
    path, theirs = tmp_path / "log", tmp_path / "theirs"
    theirs.write_bytes(b"")
    {"link": lambda: path.symlink_to(theirs), "folder": path.mkdir, "FIFO": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(OSError, match=f"there is a .*{kind}"):
        JournalFile(path)


def test_several_writers_mix_no_lines(tmp_path: Path) -> None:
    def write(number: int) -> None:
        file = JournalFile(tmp_path / "log")
        for _ in range(20):
            file.append_logs([record(number, text="x" * 5000)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers(JournalFile(tmp_path / "log"))) == sorted([0, 1, 2, 3] * 20)
