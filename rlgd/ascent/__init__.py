"""From a gradient to a step: ``Ascent``, its parts, the table of optimizers, arithmetic on trees."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.ascent.ascent import Ascent as Ascent
    from rlgd.ascent.control import Control as Control
    from rlgd.ascent.optimizers import OPTIMIZERS as OPTIMIZERS
    from rlgd.ascent.outer import Outer as Outer
    from rlgd.ascent.penalties import Clipping as Clipping
    from rlgd.ascent.penalties import Penalties as Penalties
    from rlgd.ascent.rollout_moments import RolloutMoments as RolloutMoments
    from rlgd.ascent.rule import Rule as Rule
    from rlgd.ascent.schedules import Schedules as Schedules
    from rlgd.ascent.trees import apply_step as apply_step
    from rlgd.ascent.trees import clip_by_norm as clip_by_norm
    from rlgd.ascent.trees import cosine as cosine
    from rlgd.ascent.trees import global_norm as global_norm

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.ascent.ascent": ("Ascent",),
        "rlgd.ascent.control": ("Control",),
        "rlgd.ascent.optimizers": ("OPTIMIZERS",),
        "rlgd.ascent.outer": ("Outer",),
        "rlgd.ascent.penalties": (
            "Clipping",
            "Penalties",
        ),
        "rlgd.ascent.rollout_moments": ("RolloutMoments",),
        "rlgd.ascent.rule": ("Rule",),
        "rlgd.ascent.schedules": ("Schedules",),
        "rlgd.ascent.trees": (
            "apply_step",
            "clip_by_norm",
            "cosine",
            "global_norm",
        ),
    },
)
