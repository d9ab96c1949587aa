"""The machine: its cores and the device of JAX."""

import importlib.metadata
import os
from pathlib import Path

import jax

DEVICES = Path("/dev")
GPU_DEVICES = ("nvidia[0-9]*", "kfd", "dxg")  # NVIDIA's, AMD's, and those of Windows in its Linux


def num_cores() -> int:
    """The number of cores that this process may use; all of them if the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def may_have_gpu() -> bool:
    """Whether JAX may find a GPU here: there is a plugin for one, and a device. JAX knows, but only once it started."""
    if not any(any(DEVICES.glob(name)) for name in GPU_DEVICES):
        return False  # to look for plugins takes longer: it reads about every package that is installed
    return bool(importlib.metadata.entry_points(group="jax_plugins"))


def device_name() -> str:
    """Where JAX computes, such as "cpu" or "gpu (NVIDIA H200)"."""
    device = jax.local_devices()[0]
    return device.platform if device.platform == "cpu" else f"{device.platform} ({device.device_kind})"


def one_thread_options(platform: str) -> dict[str, str]:
    """Compiler options for a program of tiny operations: on the CPU they run one after the other.

    Handing an operation to another thread takes longer than running it.
    """
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"} if platform == "cpu" else {}
