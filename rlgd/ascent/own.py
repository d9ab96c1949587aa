"""Optimizers of users: transformations of optax, and functions that make one of a step size.

Both become a row like those of ``OPTIMIZERS``. A transformation is taken as it is: it has its step size inside, and
``learning_rate``, 1 unless it is given, is a factor of its steps. A function is called with those of its arguments
that are fields of ``Rule``; they may then be swept, scheduled and vectorized like those of ours.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rlgd.ascent.formulas import Descent
from rlgd.ascent.optimizers import OPTIMIZERS, Optimizer
from rlgd.errors import UsageError
from rlgd.plugins import Kind

# The fields of ``Rule`` that a function may take, under these names, and what replaces a default that is no number.
ARGUMENTS = {
    "momentum": (("momentum", "b1"), 0.0),
    "second_moment": (("second_moment", "b2"), 0.999),
    "epsilon": (("epsilon", "eps"), 1e-8),
    "weight_decay": (("weight_decay",), 0.0),
}
EXPECTED = "an optax transformation, or a function of learning_rate (and momentum, ...) that returns one"


def optimizer_row(value: Any) -> Optimizer:
    """The row of an optimizer: ours by name, or that of a user.

    Raises:
        UsageError: if there is none.
    """
    return OPTIMIZERS[value] if OPTIMIZER.is_own(value) else _row(OPTIMIZER.part(value))


def implied(value: Any) -> dict[str, Any]:
    """The learning rate that an optimizer brings: ours in its row, a user's function as its own default, else 1."""
    if OPTIMIZER.is_own(value):
        rate = OPTIMIZERS[value].learning_rate
        return {} if rate is None else {"learning_rate": rate}
    try:
        part = OPTIMIZER.part(value)
    except UsageError:  # validation refuses it
        return {}
    if isinstance(part, optax.GradientTransformation) or not callable(part):
        return {"learning_rate": 1.0}
    parameter = _parameters(part).get("learning_rate")
    if parameter is None:
        return {"learning_rate": 1.0}
    return {"learning_rate": float(parameter.default)} if _is_number(parameter.default) else {}


@functools.lru_cache(maxsize=64)
def _row(part: Any) -> Optimizer:
    excludes = ("decay", "relative")  # what its state means is not known
    if isinstance(part, optax.GradientTransformation):
        return Optimizer(
            "a times the transformation's step", _scaled(lambda: part), {}, "", excludes=excludes, by_array=True
        )
    if not callable(part):
        raise UsageError(f"the optimizer is {part!r}; expected {EXPECTED}.")
    parameters, defaults, names = _parameters(part), {}, {}
    for field, (called, otherwise) in ARGUMENTS.items():
        if found := next((name for name in called if name in parameters), None):
            names[field], default = found, parameters[found].default
            defaults[field] = float(default) if _is_number(default) else otherwise

    def build(learning_rate: Any, **values: Any) -> Descent:
        return part(learning_rate=learning_rate, **{names[field]: value for field, value in values.items()})

    def build_without_rate(**values: Any) -> Descent:
        return part(**{names[field]: value for field, value in values.items()})

    return Optimizer(
        "the user's",
        build if "learning_rate" in parameters else _scaled(build_without_rate),
        defaults,
        "",
        decays="weight_decay" in defaults,
        excludes=excludes,
        by_array=True,
    )


def _scaled(make: Callable[..., Descent]) -> Callable[..., Descent]:
    def build(learning_rate: Any, **values: Any) -> Descent:
        return optax.chain(make(**values), optax.scale(learning_rate))

    return build


def _parameters(part: Any) -> dict[str, inspect.Parameter]:
    """The arguments of a function; none where they are not known."""
    try:
        return dict(inspect.signature(part).parameters)
    except (TypeError, ValueError):
        return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(name: str, part: Any) -> None:
    try:
        _try(part)
    except UsageError:
        raise
    except Exception as error:
        message = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"the optimizer {name!r} raises {type(error).__name__}: {message}; expected {EXPECTED}."
        ) from error


@functools.lru_cache(maxsize=64)
def _try(part: Any) -> None:
    """One step with traced numbers, by shapes alone."""
    row, params = _row(part), {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}

    def step(numbers: dict[str, Any], params: Any) -> Any:
        made = row.build(**numbers)
        if not isinstance(made, optax.GradientTransformation):
            raise UsageError(f"the optimizer returns {made!r}; expected {EXPECTED}.")
        state = made.init(params)
        return made.update(params, state, params)

    numbers = {field: jnp.asarray(value, float) for field, value in ({"learning_rate": 1.0} | row.defaults).items()}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        steps, _ = jax.eval_shape(step, numbers, params)
    if jax.tree.map(jnp.shape, steps) != jax.tree.map(jnp.shape, params):
        raise UsageError(
            f"the steps of the optimizer are {jax.tree.map(jnp.shape, steps)}; expected the parameters' shapes."
        )


OPTIMIZER = Kind("optimizer", tuple(OPTIMIZERS), _check)
