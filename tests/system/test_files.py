"""Files that survive the end of the process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlgd.errors import UsageError
from rlgd.system.files import Appender, check_own, make_folder, replace, why


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
    for name in ("file", "file.rlgd.tmp"):
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


@pytest.mark.parametrize("written", [0, 2, 4])
def test_an_interrupt_writes_no_record_twice(written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come when a record, or a part of it, is in the file and nobody has counted it yet."""
    path, write = tmp_path / "file", os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:written])
        raise KeyboardInterrupt

    file = Appender(path)
    file.append(b"one\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.append(b"two\n")
    file.append(b"three\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"


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


def made(kind: str, path: Path, target: Path) -> None:
    """What lies in the way: a link to a file of somebody else, a folder, a FIFO."""
    {"symbolic link": lambda: path.symlink_to(target), "folder": path.mkdir, "FIFO": lambda: os.mkfifo(path)}[kind]()


@pytest.mark.parametrize("name", ["file", "file.rlgd.tmp"])
@pytest.mark.parametrize("kind", ["symbolic link", "folder", "FIFO"])
def test_only_a_regular_file_is_replaced(kind: str, name: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("theirs")
    made(kind, tmp_path / name, target)
    before = (tmp_path / name).lstat()
    with pytest.raises(FileExistsError, match=f"there is a {kind}"):
        replace(tmp_path / "file", "new")
    assert target.read_text() == "theirs"
    assert (tmp_path / name).lstat() == before


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    replace(tmp_path / "file", b"\x89\r\n")
    assert (tmp_path / "file").read_bytes() == b"\x89\r\n"


def test_names_are_free_or_belong_to_the_marker(tmp_path: Path) -> None:
    check_own(tmp_path / "missing", "marker", ("a",), "study")
    (tmp_path / "a").write_text("")
    with pytest.raises(UsageError, match="a is in the way, and belongs to no study"):
        check_own(tmp_path, "marker", ("a",), "study")
    (tmp_path / "marker").write_text("")
    check_own(tmp_path, "marker", ("a",), "study")
    (tmp_path / "b").mkdir()
    check_own(tmp_path, "marker", ("a",), "study", folders=("b",))
    with pytest.raises(UsageError, match="b is a folder; a study writes"):
        check_own(tmp_path, "marker", ("a", "b"), "study")
    with pytest.raises(UsageError, match="a is a file; a study writes"):
        check_own(tmp_path, "marker", (), "study", folders=("a",))
    (tmp_path / "marker").rename(tmp_path / "elsewhere")
    (tmp_path / "marker").symlink_to("elsewhere")
    with pytest.raises(UsageError, match="marker is a symbolic link"):
        check_own(tmp_path, "marker", (), "study")


def test_folders_are_made_step_by_step_and_never_through_a_link(tmp_path: Path) -> None:
    assert make_folder(tmp_path, "a", "b") == tmp_path / "a" / "b"
    assert make_folder(tmp_path, "a", "b", "c").is_dir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(FileExistsError, match="there is a symbolic link"):
        make_folder(tmp_path, "a", "link", "b")
    assert not list((tmp_path / "theirs").iterdir())
