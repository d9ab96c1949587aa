"""Published scores, trained again from the presets and compared."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.reproduction.scoreboard import RowResult as RowResult
    from rlgd.reproduction.suite import ScoreSuite as ScoreSuite
    from rlgd.reproduction.suite import read_suite as read_suite
    from rlgd.reproduction.suite import shipped_suites as shipped_suites

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.reproduction.scoreboard": ("RowResult",),
        "rlgd.reproduction.suite": ("ScoreSuite", "read_suite", "shipped_suites"),
    },
)
