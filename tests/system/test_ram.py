"""How much RAM is free, within the limits of the process and of its control groups."""

import math
import subprocess
import sys
from pathlib import Path

from rlgd.system import ram


def test_a_limit_of_the_process_counts() -> None:
    code = (
        "import resource; from rlgd.system import ram; ram.free_bytes();"  # JAX has started
        "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); print(ram.free_bytes() <= 2**33)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\n"


def test_limits_of_control_groups_count(tmp_path: Path) -> None:
    # The kernel's files; setting real limits takes an administrator.
    def limit(group: str, maximum: str, current: int, cached: int) -> None:
        folder = tmp_path / "groups" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{maximum}\n")
        (folder / "memory.current").write_text(f"{current}\n")
        stat = f"anon {current - cached}\nfile {cached}\ninactive_file {cached - 1}\nactive_file 1\n"
        (folder / "memory.stat").write_text(stat)

    def left() -> float:
        return ram._left_in_groups(tmp_path / "membership", tmp_path / "groups")

    assert left() == math.inf  # not on Linux
    (tmp_path / "membership").write_text("4:memory:/old\n0::/pod/box\n")
    assert left() == math.inf  # as in the root group, which has no such files
    limit("pod/box", "max", 2_000, 500)
    assert left() == math.inf
    limit("pod", "8000", 3_000, 500)
    assert left() == 5_500  # cached files do not count
    limit("pod/box", "4000", 3_900, 100)
    assert left() == 200


def test_some_memory_is_free() -> None:
    assert 2**20 < ram.free_bytes() < math.inf
