"""The machine: its cores and the device of JAX."""

import os

import jax


def num_cores() -> int:
    """The number of cores that this process may use; all of them if the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_name() -> str:
    """Where JAX computes, such as "cpu" or "gpu (NVIDIA H200)"."""
    device = jax.devices()[0]
    return device.platform if device.platform == "cpu" else f"{device.platform} ({device.device_kind})"


def one_thread_options(platform: str) -> dict[str, str]:
    """Compiler options for a program of tiny operations: on the CPU they run one after the other.

    Handing an operation to another thread takes longer than running it.
    """
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"} if platform == "cpu" else {}
