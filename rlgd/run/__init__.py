"""A run: configuration, training, recording, checkpoints, resuming."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.run.api import execute as execute
    from rlgd.run.api import resume as resume
    from rlgd.run.api import train as train
    from rlgd.run.by_rule import automatic as automatic
    from rlgd.run.config import RunConfig as RunConfig
    from rlgd.run.loading import load as load
    from rlgd.run.result import TrainResult as TrainResult
    from rlgd.run.settings import EnvSettings as EnvSettings
    from rlgd.run.settings import RunSettings as RunSettings
    from rlgd.run.stopping import Stopping as Stopping

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.run.api": (
            "execute",
            "resume",
            "train",
        ),
        "rlgd.run.by_rule": ("automatic",),
        "rlgd.run.config": ("RunConfig",),
        "rlgd.run.loading": ("load",),
        "rlgd.run.result": ("TrainResult",),
        "rlgd.run.settings": (
            "EnvSettings",
            "RunSettings",
        ),
        "rlgd.run.stopping": ("Stopping",),
    },
)
