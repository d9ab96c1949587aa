"""rlgd: policy gradients as compiled gradient ascent. Names are resolved when used, so that importing is fast."""

import os
from typing import TYPE_CHECKING

from rlgd.faces import lazy

if os.name == "nt":  # no file locks as a run needs them, and no signals for worker processes
    raise ImportError(
        "rlgd runs on Linux and macOS; on Windows, install it in WSL: https://learn.microsoft.com/windows/wsl"
    )

if TYPE_CHECKING:
    from rlgd import agents as agents
    from rlgd import ascent as ascent
    from rlgd import envs as envs
    from rlgd import errors as errors
    from rlgd import evaluation as evaluation
    from rlgd import evolution as evolution
    from rlgd import exact as exact
    from rlgd import exporting as exporting
    from rlgd import maths as maths
    from rlgd import models as models
    from rlgd import run as run
    from rlgd import studies as studies
    from rlgd import training as training
    from rlgd import tuning as tuning
    from rlgd.evaluation.evaluator import EvalResult as EvalResult
    from rlgd.evaluation.evaluator import evaluate as evaluate
    from rlgd.evaluation.policy import Policy as Policy
    from rlgd.evolution.api import evolve as evolve
    from rlgd.evolution.result import EvolveResult as EvolveResult
    from rlgd.exporting.api import export as export
    from rlgd.run.api import resume as resume
    from rlgd.run.api import train as train
    from rlgd.run.catalog import runs as runs
    from rlgd.run.loading import load as load
    from rlgd.run.result import TrainResult as TrainResult
    from rlgd.run.sinks import Stop as Stop
    from rlgd.studies.api import study as study
    from rlgd.studies.publish import StudyResult as StudyResult
    from rlgd.tuning.as_function import objective as objective
    from rlgd.tuning.result import TuneResult as TuneResult
    from rlgd.tuning.search import tune as tune

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.evaluation.evaluator": (
            "EvalResult",
            "evaluate",
        ),
        "rlgd.evaluation.policy": ("Policy",),
        "rlgd.evolution.api": ("evolve",),
        "rlgd.evolution.result": ("EvolveResult",),
        "rlgd.exporting.api": ("export",),
        "rlgd.run.api": (
            "resume",
            "train",
        ),
        "rlgd.run.catalog": ("runs",),
        "rlgd.run.loading": ("load",),
        "rlgd.run.result": ("TrainResult",),
        "rlgd.run.sinks": ("Stop",),
        "rlgd.studies.api": ("study",),
        "rlgd.studies.publish": ("StudyResult",),
        "rlgd.tuning.as_function": ("objective",),
        "rlgd.tuning.result": ("TuneResult",),
        "rlgd.tuning.search": ("tune",),
    },
    submodules=(
        "agents",
        "ascent",
        "envs",
        "errors",
        "evaluation",
        "evolution",
        "exact",
        "exporting",
        "maths",
        "models",
        "run",
        "studies",
        "training",
        "tuning",
    ),
)
