"""What happens to a gradient before the rule sees it: penalties are subtracted, then long gradients are shortened."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from rlgd.ascent.trees import clip_by_norm
from rlgd.hyperparameters import hyperparameters, traced
from rlgd.pytrees import Scalar


@hyperparameters
class Penalties:
    """Terms that are subtracted from the objective, for every parameter that the ascent is given, biases included.

    They are part of the gradient: unlike weight decay, they pass through clipping and the optimizer's moments.
    """

    l1: float | None = traced(None, "this times the sum of |w| is taken from the objective", "[0, inf)")
    l2: float | None = traced(None, "half of this times the sum of w^2 is taken from the objective", "[0, inf)")

    def subtracted(self, gradient: Any, params: Any) -> Any:
        """The gradient of the objective minus that of the penalties: ``g - l1 sign(w) - l2 w``, like ``params``."""
        if self.l1 is not None:
            gradient = jax.tree.map(lambda g, w: g - jnp.asarray(self.l1, g.dtype) * jnp.sign(w), gradient, params)
        if self.l2 is not None:
            gradient = jax.tree.map(lambda g, w: g - jnp.asarray(self.l2, g.dtype) * w, gradient, params)
        return gradient


@hyperparameters
class Clipping:
    """The longest gradient, penalties included, that the optimizer is given; longer ones keep their direction."""

    max_grad_norm: float | None = traced(
        None, "a gradient with a larger global norm is scaled down to it; None: never", "(0, inf)"
    )

    @property
    def limit(self) -> Scalar:
        """``max_grad_norm``, infinite where it is None."""
        return math.inf if self.max_grad_norm is None else self.max_grad_norm

    def resolved(self) -> "Clipping":
        """A copy in which ``max_grad_norm`` is set."""
        return self if self.max_grad_norm is not None else Clipping(math.inf)

    def clipped(self, gradient: Any) -> Any:
        """``gradient``, scaled down to the global norm ``max_grad_norm`` if it is longer."""
        return clip_by_norm(gradient, self.max_grad_norm)
