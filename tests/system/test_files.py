"""Files that outlive whatever ends the process."""

import os
from pathlib import Path

import pytest

from rlgd.system.files import Appender


def test_an_appender_writes_in_order_what_a_disk_did_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Appender(tmp_path / "file")
    file.append(b"one ")
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 2:
            return write(descriptor, data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    file.append(b"two ")
    assert file.fault is not None
    assert "No space left on device" in file.fault
    file.append(b"three ")
    monkeypatch.undo()
    file.append(b"four")
    assert file.fault is None
    file.close()
    assert (tmp_path / "file").read_bytes() == b"one two three four"
