"""JAX as the command line sets it up: device, threads, compilation cache. The library itself sets none of this."""

import atexit
import contextlib
import logging
import os
from collections.abc import Collection
from pathlib import Path

from rlgd.cli import compilation_cache
from rlgd.cli.options import Computing, Processes
from rlgd.envs import HostEnv
from rlgd.errors import UsageError, unknown
from rlgd.run.config import RunConfig
from rlgd.system import machine
from rlgd.system.log import log
from rlgd.training.host_acting import is_small

MIN_COMPILE_SECONDS = 0.1  # of programs that are kept
PLATFORMS = {"cpu": "cpu", "gpu": "cuda,cpu"}  # a small policy may act on the CPU beside a GPU
ON_OFF = ("on", "off")
ONE_AFTER_THE_OTHER = "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
AUTOTUNE, DEFAULT_LEVEL = "--xla_gpu_autotune_level", 4
PRECISIONS = ("default", "high", "highest")


def set_up(config: RunConfig, computing: Computing, alone: bool = True, processes: Processes | None = None) -> None:
    """Choose the device and its fastest settings, before JAX starts.

    Args:
        config: of the run that is about to start.
        computing: what the flags ask for.
        alone: whether it is the only run of this process; if not, each core trains runs of its own.
        processes: those that train the run together; None for this one alone.

    Raises:
        UsageError: if there is no such device, or a flag has another value than those allowed.
    """
    allowed: dict[str, Collection[str]] = {"device": PLATFORMS, "autotune": ON_OFF, "matmul_precision": PRECISIONS}
    for name, choices in allowed.items():
        value = getattr(computing, name)
        if value is not None and value not in choices:
            raise unknown(name, value, choices)
    small = is_small(config.agent, config.env.spec)
    on_cpu = (computing.device or os.environ.get("JAX_PLATFORMS")) == "cpu" or not machine.may_have_gpu()
    if alone and small and on_cpu and config.settings.devices == 1:
        # Threads cost a small network more than they gain; several devices share them. On a GPU this would be the
        # number of threads that compile.
        os.environ.setdefault("PJRT_NPROC", "1")
    if computing.deterministic_ops:
        _add_xla_flag("--xla_gpu_deterministic_ops=true")
    if computing.autotune == "on" and AUTOTUNE in _xla_flags():
        _add_xla_flag(f"{AUTOTUNE}={DEFAULT_LEVEL}")  # the last one counts
    if computing.autotune == "off" or (computing.autotune is None and small and AUTOTUNE not in _xla_flags()):
        _add_xla_flag(f"{AUTOTUNE}=0")
    if processes is not None and on_cpu:
        # Two CPUs exchange what comes first; so all must compute one operation after the other, in the same order.
        _add_xla_flag(ONE_AFTER_THE_OTHER)
    import jax

    if computing.device is not None:
        jax.config.update("jax_platforms", PLATFORMS[computing.device])
    if computing.matmul_precision is not None:
        jax.config.update("jax_default_matmul_precision", computing.matmul_precision)
    if isinstance(config.env, HostEnv) or processes is not None:
        # On the host each step waits for its action, so asynchronous dispatch only costs time.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    _use_compilation_cache()
    if processes is not None:
        _join(processes)
    try:
        jax.devices()
    except RuntimeError as error:
        raise UsageError(f"there is no {computing.device or 'device'} that JAX can use: {error}") from error
    if processes is not None:
        from rlgd.system.watch import watch

        watch(None if processes.coordinator is None else processes.coordinator.rpartition(":")[0].strip("[]"))


def _join(processes: Processes) -> None:
    from rlgd.system.processes import is_first, join

    join(processes.coordinator, processes.num_processes, processes.process_id)
    if not is_first():  # one of them speaks
        log.setLevel(logging.ERROR)


def _xla_flags() -> str:
    return os.environ.get("XLA_FLAGS", "")


def _add_xla_flag(flag: str) -> None:
    os.environ["XLA_FLAGS"] = f"{_xla_flags()} {flag}".strip()


def _use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, which only the user can read, if there is one."""
    import jax

    try:
        cache = compilation_cache.folder()
        compilation_cache.remove_strangers(cache)
    except (OSError, RuntimeError):
        return
    if jax.config.values["jax_compilation_cache_dir"] != str(cache):
        # After each longer compilation, so that a kill loses nothing; and at the end, whatever JAX calls its events.

        recorded: list[int] = []

        def after(event: str, duration_secs: float, **_: str | int) -> None:
            if duration_secs <= MIN_COMPILE_SECONDS:
                return
            with contextlib.suppress(OSError):
                # Most of what takes long has written nothing; a file more changes the folder.
                if recorded != [cache.stat().st_mtime_ns]:
                    _record(cache)
                    recorded[:] = [cache.stat().st_mtime_ns]

        jax.monitoring.register_event_duration_secs_listener(after)
        atexit.register(_record, cache)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)


def _record(cache: Path) -> None:
    with contextlib.suppress(OSError):  # without a list the programs are compiled again
        compilation_cache.record(cache)
