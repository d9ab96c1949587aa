"""Natural policy gradient (Kakade 2001)."""

import math
from typing import Any, ClassVar

from rlgd.agents.base.natural import NaturalAgent
from rlgd.hyperparameters import hyperparameters, traced
from rlgd.maths.natural_gradient import Solution


@hyperparameters
class NPG(NaturalAgent):
    """Ascent along the natural gradient, with any optimizer and step size, shortened where it would move too far."""

    least_gain: ClassVar[float] = -math.inf

    max_kl: float = traced(0.05, "how far a step may move the policy: mean KL(old || new) in nats", "(0, inf)")

    def direction(self, solution: Solution) -> Any:
        """The natural gradient: x = (F + cg_damping I)^-1 g."""
        return solution.x
