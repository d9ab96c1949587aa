"""Whether what is asked for fits into memory, as far as that is sure before anything is compiled."""

import itertools
import math
from pathlib import Path

import jax
import numpy as np
import psutil

from rlgd import spaces
from rlgd.agents.common import Agent
from rlgd.data import LeafSpec
from rlgd.envs import Env
from rlgd.errors import UsageError
from rlgd.rollout import rollout_length

try:
    import resource
except ImportError:  # not every system has limits for a process
    resource = None  # type: ignore[assignment]

ROW_BYTES = 4 + 1 + 1  # reward, terminated, truncated


def available() -> float:
    """Bytes that are free: of the GPU, or of the machine and of what this process may take of it; swap counts."""
    device = jax.devices()[0]
    statistics = device.memory_stats() or {}
    if "bytes_limit" in statistics:
        return float(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
    if device.platform != "cpu":
        return math.inf  # it does not tell
    free = [min(psutil.virtual_memory().available, _left_in_groups()) + psutil.swap_memory().free]
    if resource is not None and (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        free.append(limit)
    return float(min(free))


def _left_in_groups(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that the control group of this process, and those around it, may still take: Linux, cgroup v2."""
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
        # What is cached of files counts as taken, but gives way.
        return limit - current + int(parts["active_file"]) + int(parts["inactive_file"])
    except (OSError, ValueError, KeyError):  # no limit: "max", or no file
        return math.inf


def least(agent: Agent, env: Env) -> int:
    """Bytes that an iteration surely takes: of the rollout, of what is remembered, of matrices and their gradient."""
    spec = env.spec

    def size(part: LeafSpec) -> int:
        shape, dtype = spaces.obs_shape_dtype(part)
        return math.prod(shape) * dtype.itemsize

    row = sum(map(size, [*spaces.leaf_specs(spec.obs), spec.action])) + ROW_BYTES
    inputs, weights, remembered = spaces.num_features(spec.obs), 0, 0
    if (layer := agent.recurrence) is not None:
        weights, remembered, inputs = layer.cost(inputs), layer.memory_size, layer.width
    widths = (inputs, *agent.hidden_sizes, 1)
    weights += sum(before * after for before, after in itertools.pairwise(widths))
    numbers = 2 * (2 * weights + agent.num_envs * remembered)  # of policy and value function
    if agent.box_std == "gsde":
        numbers += agent.num_envs * agent.hidden_sizes[-1]
    return agent.num_envs * rollout_length(agent, spec) * row + numbers * np.dtype(np.float32).itemsize


def check(agent: Agent, env: Env) -> None:
    """Refuse what can never fit; XLA would look for room for it without end.

    Raises:
        UsageError: what it takes, what there is, and what takes less.
    """
    needed, free = least(agent, env), available()
    if needed > free:
        raise UsageError(
            f"one iteration takes at least {needed / 2**30:,.1f} GiB, but {free / 2**30:,.1f} GiB are free; fewer "
            "num_envs, shorter rollouts (of whole episodes: a smaller max_episode_steps), smaller hidden_sizes or "
            "memory_width take less."
        )
