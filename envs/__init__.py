"""Environments: those that run on the device, and the bridge to Gymnasium's on the host. ``make`` makes either.

Worker processes import this package: it imports no JAX until a name is used.
"""

from typing import TYPE_CHECKING

from rlgd.envs.functional.registration import register
from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.envs import check as check
    from rlgd.envs import functional as functional
    from rlgd.envs.device.device_env import DeviceEnv as DeviceEnv
    from rlgd.envs.functional.registration import TWINS as TWINS
    from rlgd.envs.host.host_env import HostEnv as HostEnv
    from rlgd.envs.randomization import randomized as randomized
    from rlgd.envs.registry import Env as Env
    from rlgd.envs.registry import device_ids as device_ids
    from rlgd.envs.registry import full_id as full_id
    from rlgd.envs.registry import make as make
    from rlgd.envs.suites.catalog import SUITES as SUITES

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.envs.device.device_env": ("DeviceEnv",),
        "rlgd.envs.functional.registration": ("TWINS",),
        "rlgd.envs.host.host_env": ("HostEnv",),
        "rlgd.envs.randomization": ("randomized",),
        "rlgd.envs.registry": (
            "Env",
            "device_ids",
            "full_id",
            "make",
        ),
        "rlgd.envs.suites.catalog": ("SUITES",),
    },
    submodules=(
        "check",
        "functional",
    ),
)

register()
