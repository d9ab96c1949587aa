"""Files that survive the end of the process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlgd.system.files import Appender, replace, why


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in ("old\n", "new\n"):
        replace(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_replacement_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [lambda path: replace(path, "new"), lambda path: Appender(path)])
def test_a_link_is_refused(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    """Nobody can make us write to a file of theirs."""
    target = tmp_path / "target"
    target.write_text("theirs")
    for name in ("file", "file.tmp"):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        write(tmp_path / "file")
    assert target.read_text() == "theirs"


def test_records_are_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first\n")
    file = Appender(path)
    file.append(b"second\n")
    assert path.read_bytes() == b"first\nsecond\n"
    assert file.fault is None
    file.close()


def test_records_that_were_not_written_are_kept_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, room, write = tmp_path / "file", [5], os.write

    def limited(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = write(descriptor, data[: room[0]])
        room[0] -= taken
        return taken

    file = Appender(path)
    monkeypatch.setattr(os, "write", limited)
    for record in (b"one\n", b"two\n", b"three\n"):
        file.append(record)
    assert path.read_bytes() == b"one\nt"
    assert file.fault is not None
    assert file.fault.startswith(f"{path} cannot be written: No space left on device; ")
    assert file.fault.endswith(" bytes are free")
    room[0] = 100
    file.append(b"four\n")
    assert path.read_bytes() == b"one\ntwo\nthree\nfour\n"
    assert not file.fault
    room[0] = 2
    file.append(b"five\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo\nthree\nfour\n"  # a torn record is removed


def test_a_removed_file_is_a_fault(tmp_path: Path) -> None:
    file = Appender(tmp_path / "file")
    (tmp_path / "file").unlink()
    file.append(b"record\n")
    assert file.fault is not None
    assert "it was removed" in file.fault


def test_an_error_is_one_line(tmp_path: Path) -> None:
    assert why(OSError(13, "Permission denied"), tmp_path).startswith("Permission denied; ")
    assert why(ValueError("one\ntwo"), tmp_path).startswith("ValueError: one; ")
    assert why(ValueError("one"), tmp_path / "missing") == "ValueError: one"
