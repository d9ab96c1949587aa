"""Environments that run on the device."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.envs.device.device_env import DeviceEnv as DeviceEnv
    from rlgd.envs.device.device_env import EnvState as EnvState
    from rlgd.envs.device.device_env import Timestep as Timestep
    from rlgd.envs.device.gym_vector import DeviceVectorEnv as DeviceVectorEnv

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.envs.device.device_env": (
            "DeviceEnv",
            "EnvState",
            "Timestep",
        ),
        "rlgd.envs.device.gym_vector": ("DeviceVectorEnv",),
    },
)
