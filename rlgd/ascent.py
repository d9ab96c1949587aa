"""Gradient ascent: an optimizer, its hyper-parameters and its schedule, as one value that can be swept.

The only module that imports optax, which descends. The sign is turned once, at the front of the chain: there, weight
decay still shrinks the weights; behind the optimizer it would make them grow.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rlgd import config
from rlgd.config import hyperparameters, static, traced
from rlgd.data import Scalar
from rlgd.errors import UsageError, unknown

Descent: TypeAlias = optax.GradientTransformation


class Optimizer(NamedTuple):
    """A row of the table of optimizers.

    Attributes:
        formula: the step that is added, for the gradient g of the objective, step size a, momentum m,
            second-moment coefficient b and epsilon e.
        build: makes the optax transformation from the step size and the fields named in ``defaults``.
        defaults: the fields that the optimizer uses and the values they take when they are left at None.
        paper: where it comes from.
    """

    formula: str
    build: Callable[..., Descent]
    defaults: dict[str, float]
    paper: str


def _rmsprop(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    # Unlike in optax.rmsprop the step size comes last, as in PyTorch: a schedule then acts on the whole trace.
    return optax.chain(
        optax.scale_by_rms(decay=second_moment, eps=epsilon, eps_in_sqrt=True),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(learning_rate),
    )


def _adam(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    return optax.adam(learning_rate, b1=momentum, b2=second_moment, eps=epsilon)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer("a g", optax.sgd, {}, "Robbins & Monro 1951"),
    "momentum": Optimizer("a v;  v = m v + g", optax.sgd, {"momentum": 0.9}, "Polyak 1964 (heavy ball)"),
    "nesterov": Optimizer(
        "a (m v + g);  v = m v + g",
        lambda learning_rate, momentum: optax.sgd(learning_rate, momentum, nesterov=True),
        {"momentum": 0.9},
        "Nesterov 1983; Sutskever et al. 2013",
    ),
    "rmsprop": Optimizer(
        "a v;  v = m v + g / sqrt(s + e);  s = b s + (1 - b) g^2",
        _rmsprop,
        {"momentum": 0.0, "second_moment": 0.9, "epsilon": 1e-8},
        "Tieleman & Hinton 2012",
    ),
    "adagrad": Optimizer(
        "a g / sqrt(s + e);  s = s + g^2, from 0.1",
        lambda learning_rate, epsilon: optax.adagrad(learning_rate, eps=epsilon),
        {"epsilon": 1e-7},
        "Duchi, Hazan & Singer 2011",
    ),
    "adam": Optimizer(
        "a v' / (sqrt(s') + e);  v = m v + (1 - m) g;  s = b s + (1 - b) g^2;  ' corrects the bias",
        _adam,
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-8},
        "Kingma & Ba 2015, arXiv 1412.6980",
    ),
    "adamw": Optimizer(
        "adam's step - a weight_decay w",
        _adam,
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-8, "weight_decay": 1e-4},
        "Loshchilov & Hutter 2019, arXiv 1711.05101",
    ),
}

SCHEDULES: dict[str, Callable[[Array], Array]] = {
    "constant": jnp.ones_like,
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: 0.5 * (1 + jnp.cos(math.pi * progress)),
}


@hyperparameters
class Ascent:
    """How parameters climb. ``Ascent("adam", learning_rate=1e-3).transformation()`` is ready to use.

    A field left at None takes the optimizer's own default (``OPTIMIZERS``); a field that is set and that the optimizer
    does not use is refused.
    """

    optimizer: str = static("adam", "the rule that turns gradients into steps", choices=tuple(OPTIMIZERS))
    learning_rate: float = traced(1e-3, "step size", "[0, inf)")
    momentum: float | None = traced(
        None, "coefficient of the first moment: heavy ball's and Nesterov's beta, Adam's b1", "[0, 1)"
    )
    second_moment: float | None = traced(None, "coefficient of the mean of squared gradients: Adam's b2", "[0, 1)")
    epsilon: float | None = traced(None, "keeps the adaptive methods' denominator from 0", "(0, inf)")
    weight_decay: float | None = traced(None, "decoupled: each step shrinks weights by this share of it", "[0, inf)")
    max_grad_norm: float | None = traced(
        None, "a gradient with a larger global norm is scaled down to it; None: never", "(0, inf)"
    )
    schedule: str = static("constant", "how the step size changes over the run, from 1 to 0", choices=tuple(SCHEDULES))

    def validate(self) -> None:
        """Check ranges, and that every field that is set has an effect.

        Raises:
            UsageError: naming the field, what was given and what is allowed.
        """
        config.validate(self)
        self.resolved()

    def resolved(self) -> "Ascent":
        """A copy in which every field that the optimizer uses has its value.

        Raises:
            UsageError: for an unknown optimizer or schedule, and for a field that is set without effect.
        """
        for name, table in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in table:
                raise unknown(name, getattr(self, name), table)
        defaults = OPTIMIZERS[self.optimizer].defaults
        for name in ("momentum", "second_moment", "epsilon"):
            if getattr(self, name) is not None and name not in defaults:
                users = [other for other, row in OPTIMIZERS.items() if name in row.defaults]
                raise UsageError(
                    f"{name} is set, but {self.optimizer} does not use it; leave it out, or choose one of "
                    f"{', '.join(users)}."
                )

        everywhere = {"weight_decay": 0.0, "max_grad_norm": math.inf}
        missing = {name: value for name, value in (everywhere | defaults).items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)  # type: ignore[arg-type]

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """The optax transformation; build it where it is used, from values that may be traced.

        ``init(params) -> state`` and ``update(gradient, state, params, progress=0.0) -> (step, state)``: the gradient
        is the objective's, the step is to be added, ``progress`` is the share of the run done, in [0, 1].
        """
        ascent = self.resolved()
        max_norm = math.inf if ascent.max_grad_norm is None else ascent.max_grad_norm

        def init(params: Any) -> Any:
            return ascent._descent(jnp.zeros(())).init(params)

        def update(gradient: Any, state: Any, params: Any, progress: Scalar = 0.0, **other: Any) -> tuple[Any, Any]:
            # optax's bias corrections mix floats and integers, which strict promotion refuses.
            with jax.numpy_dtype_promotion("standard"):
                descent = ascent._descent(jnp.asarray(progress, float))
                return descent.update(clip_by_norm(jax.tree.map(jnp.negative, gradient), max_norm), state, params)

        return optax.GradientTransformationExtraArgs(init, update)

    def step_size(self, progress: Scalar) -> Array:
        """The learning rate after the schedule, at a share ``progress`` of the run."""
        done = jnp.clip(jnp.asarray(progress, jax.dtypes.canonicalize_dtype(float)), 0, 1)
        return jnp.asarray(self.learning_rate, done.dtype) * SCHEDULES[self.schedule](done)

    def _descent(self, progress: Array) -> Descent:
        row = OPTIMIZERS[self.optimizer]
        learning_rate = self.step_size(progress)
        values = {name: getattr(self, name) for name in row.defaults if name != "weight_decay"}
        shrink = optax.add_decayed_weights(-learning_rate * jnp.asarray(self.weight_decay, learning_rate.dtype))
        return optax.chain(row.build(learning_rate, **values), shrink)


def clip_by_norm(gradient: Any, max_norm: Scalar) -> Any:
    """``gradient``, scaled down to global norm ``max_norm`` if it is longer."""
    norm = optax.tree.norm(gradient)
    scale = jnp.where(norm > max_norm, max_norm / norm, 1.0)
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient)


def global_norm(tree: Any) -> Array:
    """The Euclidean length of all leaves together, a scalar."""
    return optax.tree.norm(tree)


def apply_step(params: Any, step: Any) -> Any:
    """``params + step``."""
    return jax.tree.map(jnp.add, params, step)


def first_moment(state: Any) -> Any:
    """The average of past gradients of the objective in an optimizer's state, or None if it keeps none."""
    for name in ("mu", "trace"):
        if (moment := optax.tree.get(state, name)) is not None:
            return jax.tree.map(jnp.negative, moment)
    return None


def cosine(a: Any, b: Any) -> Array:
    """The cosine of the angle between two trees, a scalar; 0 where one of them is 0."""
    lengths = optax.tree.norm(a) * optax.tree.norm(b)
    return optax.tree.vdot(a, b) / jnp.maximum(lengths, jnp.finfo(lengths.dtype).tiny)
