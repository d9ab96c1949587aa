"""Pure functions: returns, objectives, distributions, natural gradient, statistics."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.maths import blocks as blocks
    from rlgd.maths import confidence as confidence
    from rlgd.maths import distributions as distributions
    from rlgd.maths import minibatches as minibatches
    from rlgd.maths import natural_gradient as natural_gradient
    from rlgd.maths import objectives as objectives
    from rlgd.maths import returns as returns
    from rlgd.maths import running_statistics as running_statistics
    from rlgd.maths import seeds as seeds

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {},
    submodules=(
        "blocks",
        "confidence",
        "distributions",
        "minibatches",
        "natural_gradient",
        "objectives",
        "returns",
        "running_statistics",
        "seeds",
    ),
)
