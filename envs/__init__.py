"""Environments: on-device ones, and the bridge to Gymnasium. ``make`` turns an id, or what is brought, into either.

Names are resolved when they are used: worker processes import this package, and need no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rlgd.envs.twins import register

if TYPE_CHECKING:
    from rlgd.envs.registry import SUITES, TWINS, DeviceEnv, Env, HostEnv, device_ids, full_id, make

__all__ = ["SUITES", "TWINS", "DeviceEnv", "Env", "HostEnv", "device_ids", "full_id", "make"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("rlgd.envs.registry"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register()
