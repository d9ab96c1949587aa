"""One writer at a time in a run directory."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlgd.errors import UsageError
from rlgd.system import lock
from rlgd.system.lock import LOCK, Claim, Lock, alone, held, is_claimed, is_held


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


def test_of_two_writers_one_wins(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from rlgd.system.lock import Lock
from rlgd.errors import UsageError

def both(word, directory):  # say the word, and wait until the other process has said it
    (directory / f"{word}-{sys.argv[2]}").touch()
    while len(list(directory.glob(f"{word}-*"))) < 2:
        pass

for number in range(20):
    directory = Path(sys.argv[1]) / str(number)
    both("here", directory)
    try:
        lock = Lock(directory)
    except UsageError as error:
        print(2, error)
        both("tried", directory)
        continue
    lock.sign()
    both("tried", directory)
    lock.release()
    print(0)
"""
    for number in range(20):
        (tmp_path / str(number)).mkdir()
    argv = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen([*argv, name], stdout=subprocess.PIPE, text=True) for name in ("one", "other")]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in both]
    for one, other in zip(*outputs, strict=True):
        assert sorted([one[0], other[0]]) == ["0", "2"]
    refusals = [line for output in outputs for line in output if line[0] == "2"]
    pids = "|".join(str(process.pid) for process in both)
    assert len(refusals) == 20
    assert all(re.search(rf"\(pid ({pids}) on .+, since \d", line) for line in refusals)


def test_a_block_is_for_one_at_a_time_and_others_wait(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(5):
            with alone(tmp_path / "lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.002)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_claim_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    assert not is_claimed(path)
    code = f"import time; from pathlib import Path; from rlgd.system.lock import Claim\nClaim(Path({str(path)!r}))\n"
    code += "print('claimed', flush=True); time.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    assert is_claimed(path)
    with pytest.raises(BlockingIOError):
        Claim(path)
    process.kill()
    process.communicate()
    assert not is_claimed(path)
    mine = Claim(path)
    assert is_claimed(path)
    mine.release()
    assert not path.exists()


def test_a_directory_is_held_and_given_back(tmp_path: Path) -> None:
    owner = rf"is being written by another process \(pid {os.getpid()} "
    with held(tmp_path), pytest.raises(UsageError, match=owner), held(tmp_path):
        pass
    with held(tmp_path):
        pass
    with pytest.raises(UsageError, match="cannot be written: No such file"), held(tmp_path / "missing"):
        pass


def test_whether_a_process_writes_can_be_asked_without_taking_the_lock(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert not (tmp_path / LOCK).exists()
    taken = Lock(tmp_path)
    assert not is_held(tmp_path)  # it writes nothing before it has signed
    taken.sign()
    assert is_held(tmp_path)
    signature = (tmp_path / LOCK).read_text()
    taken.release()
    assert not is_held(tmp_path)
    (tmp_path / LOCK).write_text(signature)  # as a killed process leaves it
    assert not is_held(tmp_path)
    Lock(tmp_path).release()
