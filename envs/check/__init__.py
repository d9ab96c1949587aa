"""Whether an environment is sound: checked alone, in vectors, and in a worker process (`rlgd check-env`).

Worker processes import this package: it imports no JAX.
"""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.envs.check.checker import check as check
    from rlgd.envs.check.report import Finding as Finding
    from rlgd.envs.check.report import Report as Report
    from rlgd.envs.check.report import render as render

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.envs.check.checker": ("check",),
        "rlgd.envs.check.report": (
            "Finding",
            "Report",
            "render",
        ),
    },
)
