"""The training loop: rollouts, iterations, chunks."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.training.chunks import Chunk as Chunk
    from rlgd.training.chunks import chunk_length as chunk_length
    from rlgd.training.loop import initialize as initialize
    from rlgd.training.loop import iterate as iterate
    from rlgd.training.runners import DeviceRunner as DeviceRunner
    from rlgd.training.runners import HostRunner as HostRunner
    from rlgd.training.runners import OverlappingRunner as OverlappingRunner
    from rlgd.training.runners import Runner as Runner

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.training.chunks": (
            "Chunk",
            "chunk_length",
        ),
        "rlgd.training.loop": (
            "initialize",
            "iterate",
        ),
        "rlgd.training.runners": (
            "DeviceRunner",
            "HostRunner",
            "OverlappingRunner",
            "Runner",
        ),
    },
)
