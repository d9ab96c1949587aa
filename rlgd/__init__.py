"""rlgd: policy gradients as compiled gradient ascent. Names are resolved when used, so that importing is fast."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgd.evaluation import EvalResult, evaluate
    from rlgd.policy import Policy
    from rlgd.run import TrainResult, load, resume, train
    from rlgd.sweep import StudyResult, study
    from rlgd.tuning import TuneResult, tune

__version__ = "0.1.0"
__all__ = [
    "EvalResult",
    "Policy",
    "StudyResult",
    "TrainResult",
    "TuneResult",
    "evaluate",
    "load",
    "resume",
    "study",
    "train",
    "tune",
]

_HOME = {
    "EvalResult": "rlgd.evaluation",
    "Policy": "rlgd.policy",
    "StudyResult": "rlgd.sweep",
    "TrainResult": "rlgd.run",
    "TuneResult": "rlgd.tuning",
    "evaluate": "rlgd.evaluation",
    "load": "rlgd.run",
    "resume": "rlgd.run",
    "study": "rlgd.sweep",
    "train": "rlgd.run",
    "tune": "rlgd.tuning",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
