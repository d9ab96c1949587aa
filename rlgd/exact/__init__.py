"""Problems with exact gradients, and estimators compared with them."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.exact.comparison import compare as compare
    from rlgd.exact.lqr import LQR as LQR
    from rlgd.exact.lqr import LinearGaussian as LinearGaussian
    from rlgd.exact.mdp import TabularMDP as TabularMDP

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.exact.comparison": ("compare",),
        "rlgd.exact.lqr": (
            "LQR",
            "LinearGaussian",
        ),
        "rlgd.exact.mdp": ("TabularMDP",),
    },
)
