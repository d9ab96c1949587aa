"""Trained policies, and how good they are."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.evaluation.evaluator import EvalResult as EvalResult
    from rlgd.evaluation.evaluator import evaluate as evaluate
    from rlgd.evaluation.policy import Policy as Policy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.evaluation.evaluator": (
            "EvalResult",
            "evaluate",
        ),
        "rlgd.evaluation.policy": ("Policy",),
    },
)
