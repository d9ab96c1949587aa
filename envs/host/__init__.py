"""The bridge to Gymnasium's environments on the host. Worker processes import this package: it imports no JAX."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.envs.host.host_env import HostEnv as HostEnv
    from rlgd.envs.host.host_step import HostStep as HostStep
    from rlgd.envs.host.host_vector import HostVector as HostVector

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.envs.host.host_env": ("HostEnv",),
        "rlgd.envs.host.host_step": ("HostStep",),
        "rlgd.envs.host.host_vector": ("HostVector",),
    },
)
