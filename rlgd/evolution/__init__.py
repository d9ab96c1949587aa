"""A population that changes its hyper-parameters while it trains: ``evolve``, and the schedule that it found."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.evolution.api import evolve as evolve
    from rlgd.evolution.result import EvolveResult as EvolveResult

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.evolution.api": ("evolve",),
        "rlgd.evolution.result": ("EvolveResult",),
    },
)
