"""Engines: where jobs run that one process is too few for; Slurm, Dask and Ray as executors like Python's own."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.engines.choice import ENGINES as ENGINES
    from rlgd.engines.choice import EngineChoice as EngineChoice
    from rlgd.engines.jobs import RESTARTS as RESTARTS
    from rlgd.engines.jobs import Ended as Ended
    from rlgd.engines.jobs import run_jobs as run_jobs

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.engines.choice": ("ENGINES", "EngineChoice"),
        "rlgd.engines.jobs": ("RESTARTS", "Ended", "run_jobs"),
    },
)
