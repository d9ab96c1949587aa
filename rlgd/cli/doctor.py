"""``rlgd doctor``."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from rlgd.cli import compilation_cache
from rlgd.cli.options import CommandOptions, flag
from rlgd.system.commands import as_typed
from rlgd.tables import aligned

VARIABLES = ("JAX_PLATFORMS", "XLA_FLAGS", "PJRT_NPROC", "CUDA_VISIBLE_DEVICES", "JAX_ENABLE_X64", "JAX_DEBUG_NANS")
PACKAGES = (
    *("rlgd", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "gymnasium", "numpy"),
    *("tensorboard", "tensorboardX"),
)
MISSING = "missing"
ENOUGH = 1 << 30  # bytes of disk and of memory below which a run may fail


@dataclasses.dataclass(frozen=True)
class Options(CommandOptions):
    """Print versions, devices, caches, extras and what is wrong here, to paste into a report.

    The exit code is 1 if something is wrong.
    """

    json: bool = flag(False, "print one JSON document on standard output, and nothing else there")
    debug: bool = flag(False, "show the traceback of a failure")


def run(options: Options) -> int:
    """Look, and print what was found."""
    facts, wrong = {**_software(), **_machine(), **_extras()}, list(map(as_typed, _wrong()))
    if options.json:
        print(json.dumps({"facts": facts, "wrong": wrong}))
    else:
        print(aligned([[name, value] for name, value in facts.items()]))
        print("\n" + ("\n".join(f"wrong: {line}" for line in wrong) or "nothing wrong was found"))
    return 1 if wrong else 0


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def _software() -> dict[str, str]:
    facts = {package: _version(package) for package in PACKAGES}
    facts["rlgd"] += f" in {Path(__file__).parents[1]}"
    return facts | {"Python": f"{platform.python_version()} in {sys.prefix}", "system": platform.platform()}


def _machine() -> dict[str, str]:
    import psutil

    from rlgd.system import machine

    devices, error = _devices()
    names = ", ".join(f"{device.platform} ({device.device_kind})" for device in devices)
    facts = {"devices": names or f"none ({error})"}
    facts["cores"] = f"{machine.num_cores()} of {os.cpu_count()}"
    facts["memory"] = f"{_size(psutil.virtual_memory().available)} free"
    facts["disk"] = f"{_size(shutil.disk_usage('.').free)} free in {Path.cwd()}"
    with contextlib.suppress(OSError, RuntimeError):
        cache = compilation_cache.folder()
        size = sum(path.stat().st_size for path in cache.iterdir())
        facts["compiled programs"] = f"{_size(size)} in {cache}"
    return facts | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _devices() -> tuple[list[Any], str]:
    """The devices of JAX; if it finds none, the reason."""
    import jax

    try:
        return jax.devices(), ""
    except Exception as error:  # of several kinds; a report must come to its end
        return [], (str(error) or type(error).__name__).partition("\n")[0]


def _extras() -> dict[str, str]:
    """Which extras are installed."""
    if _version("rlgd") == MISSING:
        return {"extras": "unknown: this rlgd is not installed"}
    extras = importlib.metadata.metadata("rlgd").get_all("Provides-Extra") or []
    there = {extra for extra in extras if _installed("rlgd", extra)}
    return {"extras": ", ".join(sorted(there)) or "none", "other extras": ", ".join(sorted({*extras} - there))}


def _installed(package: str, extra: str) -> bool:
    """Whether a package and what one of its extras needs are installed."""
    try:
        needed = map(Requirement, importlib.metadata.requires(package) or ())
    except importlib.metadata.PackageNotFoundError:
        return False
    of_extra = [
        one for one in needed if one.marker and not one.marker.evaluate() and one.marker.evaluate({"extra": extra})
    ]
    return all(
        _version(one.name) != MISSING and all(_installed(one.name, further) for further in one.extras)
        for one in of_extra
    )


def _wrong() -> Iterator[str]:
    """What is known to go wrong on machines, each with what helps."""
    import jax
    import psutil

    from rlgd.system import machine

    devices, error = _devices()
    if not devices:
        yield f"JAX finds no device ({error}): look at JAX_PLATFORMS."
    if _version("rlgd") == MISSING:
        yield "this rlgd is not installed: .venv/bin/pip install -e . in its folder."
    if (
        any(any(machine.DEVICES.glob(name)) for name in machine.GPU_DEVICES)
        and devices
        and devices[0].platform == "cpu"
    ):
        yield "there is a GPU, and JAX does not use it: pip install 'rlgd[cuda]', and look at JAX_PLATFORMS."
    found, beside = shutil.which("rlgd"), Path(sys.executable).with_name("rlgd")
    if found and beside.exists() and not os.path.samefile(found, beside):
        yield f"the path has another rlgd first: {found}; this one is {beside}."
    try:
        compilation_cache.folder()
    except (OSError, RuntimeError) as error:
        yield f"no program stays compiled ({error}): set XDG_CACHE_HOME."
    if not os.access(".", os.W_OK):
        yield f"{Path.cwd()} cannot be written: go elsewhere, or name a directory by --run-dir."
    if shutil.disk_usage(".").free < ENOUGH:
        yield f"the disk of {Path.cwd()} is nearly full: checkpoints may not find room."
    if psutil.virtual_memory().available < ENOUGH:
        yield "memory is nearly full: use fewer --num-envs."
    if jax.config.values["jax_enable_x64"]:
        yield "JAX_ENABLE_X64 is set: rlgd computes in 32 bits, and was not tested with it."
    if jax.config.values["jax_debug_nans"] or jax.config.values["jax_disable_jit"]:
        yield "JAX_DEBUG_NANS or JAX_DISABLE_JIT is set: training takes many times as long."


def _size(count: float) -> str:
    """A number of bytes as a person reads it."""
    return f"{count / 1e9:.1f} GB"
