"""How much RAM, or memory of the GPU, is free."""

import math
from pathlib import Path

import jax
import psutil

try:
    import resource
except ImportError:  # not every system has limits for a process
    resource = None  # type: ignore[assignment]


def free_bytes() -> float:
    """Bytes of the GPU that are free; without one, of the machine, within this process's limits, swap included."""
    device = jax.local_devices()[0]
    statistics = device.memory_stats() or {}
    if "bytes_limit" in statistics:
        return float(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
    if device.platform != "cpu":
        return math.inf  # unknown
    free = [min(psutil.virtual_memory().available, _left_in_groups()) + psutil.swap_memory().free]
    if resource is not None and (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        free.append(limit)
    return float(min(free))


def _left_in_groups(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that the control group of this process, and all groups around it, may still take (Linux, cgroup v2)."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    folders = [root / line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    around = [folder for own in folders for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return min(map(_left_in_group, around), default=math.inf)


def _left_in_group(folder: Path) -> float:
    try:
        limit, current = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
        parts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Cached files count as used, but the system drops them when memory is needed.
        return limit - current + int(parts["active_file"]) + int(parts["inactive_file"])
    except (OSError, ValueError, KeyError):  # no limit: "max", or no file
        return math.inf
