"""Search for hyper-parameters that learn well."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.tuning.as_function import objective as objective
    from rlgd.tuning.result import TuneResult as TuneResult
    from rlgd.tuning.search import tune as tune

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.tuning.as_function": ("objective",),
        "rlgd.tuning.result": ("TuneResult",),
        "rlgd.tuning.search": ("tune",),
    },
)
