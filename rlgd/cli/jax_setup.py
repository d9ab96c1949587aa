"""JAX as the command line sets it up: device, threads, compilation cache. The library itself sets none of this."""

import atexit
import contextlib
import os
from pathlib import Path

from rlgd.cli import compilation_cache
from rlgd.envs import HostEnv
from rlgd.errors import UsageError, unknown
from rlgd.run.config import RunConfig
from rlgd.training.host_rollout import is_small

MIN_COMPILE_SECONDS = 0.1  # of programs that are kept
PLATFORMS = {"cpu": "cpu", "gpu": "cuda,cpu"}  # a small policy may act on the CPU beside a GPU


def set_up(config: RunConfig, device: str | None, deterministic_ops: bool, alone: bool = True) -> None:
    """Choose the device and its fastest settings, before JAX starts.

    Args:
        config: of the run that is about to start.
        device: "cpu" or "gpu"; None takes a GPU if there is one.
        deterministic_ops: the same bits from every run on a GPU.
        alone: whether it is the only run of this process; if not, each core trains runs of its own.

    Raises:
        UsageError: if there is no such device.
    """
    if device is not None and device not in PLATFORMS:
        raise unknown("device", device, PLATFORMS)
    if alone and is_small(config.agent, config.env.spec):
        # Threads cost a small network more than they gain; a GPU ignores this.
        os.environ.setdefault("PJRT_NPROC", "1")
    if deterministic_ops:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    import jax

    if device is not None:
        jax.config.update("jax_platforms", PLATFORMS[device])
    if isinstance(config.env, HostEnv):
        # Each step waits for its action, so asynchronous dispatch only costs time.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    _use_compilation_cache()
    try:
        jax.devices()
    except RuntimeError as error:
        raise UsageError(f"there is no {device or 'device'} that JAX can use: {error}") from error


def _use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, which only the user can read, if there is one."""
    import jax

    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = Path(home) / "rlgd" / "xla"
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        if cache.stat().st_uid != os.getuid():  # another user may have written these programs
            return
        cache.chmod(0o700)
        compilation_cache.remove_strangers(cache)
    except (OSError, RuntimeError):
        return
    if jax.config.values["jax_compilation_cache_dir"] != str(cache):
        # After each longer compilation, so that a kill loses nothing; and at the end, whatever JAX calls its events.

        def after(event: str, duration_secs: float, **_: str | int) -> None:
            if duration_secs > MIN_COMPILE_SECONDS:
                _record(cache)

        jax.monitoring.register_event_duration_secs_listener(after)
        atexit.register(_record, cache)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)


def _record(cache: Path) -> None:
    with contextlib.suppress(OSError):  # without a list the programs are compiled again
        compilation_cache.record(cache)
