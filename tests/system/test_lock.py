"""One writer at a time in a run directory."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rlgd.errors import UsageError
from rlgd.system import lock
from rlgd.system.lock import LOCK, Lock


def test_a_lock_is_taken_once_and_names_its_owner(tmp_path: Path) -> None:
    first = Lock(tmp_path)
    first.sign()
    owner = rf"is being written by another process \(pid {os.getpid()} on {socket.gethostname()}, since \d"
    for _ in range(2):
        with pytest.raises(UsageError, match=owner):
            Lock(tmp_path)
    first.release()
    assert (tmp_path / LOCK).read_bytes() == b""
    Lock(tmp_path).release()


def test_a_lock_without_a_signature_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SIGNED_WITHIN", 0.05)
    first = Lock(tmp_path)
    with pytest.raises(UsageError, match=r"is being written by another process\.$"):
        Lock(tmp_path)
    first.release()


def test_the_signature_of_a_dead_process_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed, and the next owner has not signed yet."""
    monkeypatch.setattr(lock, "SIGNED_WITHIN", 0.05)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    signature = {"pid": ended.pid, "host": socket.gethostname(), "start": "2026-01-01 00:00:00"}
    (tmp_path / LOCK).write_text(json.dumps(signature))
    first = Lock(tmp_path)
    with pytest.raises(UsageError, match=r"is being written by another process\.$"):
        Lock(tmp_path)
    first.release()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from rlgd.system.lock import Lock
lock = Lock(Path(sys.argv[1]))
lock.sign()
print("locked", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(UsageError, match=rf"pid {process.pid} on"):
        Lock(tmp_path)
    process.kill()
    process.communicate()
    Lock(tmp_path).release()


def test_a_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("theirs")
    (tmp_path / LOCK).symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        Lock(tmp_path)
    assert target.read_text() == "theirs"
