"""The lock of a run directory."""

import re
import subprocess
import sys
import time
from pathlib import Path


def test_of_two_writers_one_wins(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from rlgd.system.lock import Lock
from rlgd.errors import UsageError
for number in range(20):
    while time.time() < float(sys.argv[2]) + number * 0.2:
        pass
    try:
        lock = Lock(Path(sys.argv[1]) / str(number))
    except UsageError as error:
        print(2, error)
        continue
    lock.sign()
    time.sleep(0.1)
    lock.release()
    print(0)
"""
    for number in range(20):
        (tmp_path / str(number)).mkdir()
    start = str(time.time() + 5)
    argv = [sys.executable, "-c", script, str(tmp_path), start]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in both]
    for one, other in zip(*outputs, strict=True):
        assert sorted([one[0], other[0]]) == ["0", "2"]
    refusals = [line for output in outputs for line in output if line[0] == "2"]
    pids = "|".join(str(process.pid) for process in both)
    assert len(refusals) == 20
    assert all(re.search(rf"\(pid ({pids}) on .+, since \d", line) for line in refusals)
