"""The hyper-parameters that evolve, as places in [0, 1] of their ranges."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from rlgd import hyperparameters
from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError, unknown
from rlgd.studies.arms import SPACINGS, bounds

# The schedule that a plain run follows such a hyper-parameter by.
SCHEDULES = {
    "learning_rate": "schedule",
    "momentum": "momentum_schedule",
    "ent_coef": "ent_coef_schedule",
    "clip_eps": "clip_eps_schedule",
}


class Dimension(NamedTuple):
    """A traced hyper-parameter with its range, by factors or by differences."""

    name: str
    low: float
    high: float
    by_factors: bool

    def value(self, place: Array) -> Array:
        """The values at places in [0, 1], of the same shape."""
        if self.by_factors:
            return self.low * jnp.exp(place * math.log(self.high / self.low))
        return self.low + place * (self.high - self.low)


def dimensions(agent: Agent, ranges: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """What evolves, from ``{name: {"log": [low, high]}}`` or ``{name: {"linear": [low, high]}}``.

    Raises:
        UsageError: if nothing evolves, or a name or a range is not possible.
    """
    if not ranges:
        raise UsageError("nothing evolves; give at least one range, such as learning_rate=log:1e-4,1e-2.")
    return tuple(_dimension(agent, name, given) for name, given in ranges.items())


def evolving(agent: Agent, found: tuple[Dimension, ...]) -> Agent:
    """The agent whose numbers may be replaced: all that evolve are set, and no schedule changes them too.

    Raises:
        UsageError: if an end of a range is not possible.
    """
    known = hyperparameters.flat_fields(agent)
    schedules = {SCHEDULES[d.name]: "constant" for d in found if SCHEDULES.get(d.name) in known}
    for end in ("low", "high"):
        changed = hyperparameters.with_values(agent, schedules | {d.name: getattr(d, end) for d in found})
        changed.validate()
    # What the winner's line will be written as: it must not be refused when everything is trained.
    hyperparameters.with_values(changed, dict.fromkeys(schedules, "piecewise:0=0.5,1=1")).validate()
    return changed


def with_places(agent: Agent, found: tuple[Dimension, ...], places: Array) -> Agent:
    """The agent with the values at ``places [dimensions]``, which may be traced."""
    return hyperparameters.with_values(agent, {d.name: d.value(place) for d, place in zip(found, places, strict=True)})


def _dimension(agent: Agent, name: str, given: Any) -> Dimension:
    fields = hyperparameters.flat_fields(agent)
    numbers = [known for known, flat in fields.items() if not flat.field.metadata["static"]]
    if name in fields and (name not in numbers or not fields[name].field.metadata["resumable"]):
        raise UsageError(f"{name} cannot change while a population trains; numbers that can: {', '.join(numbers)}.")
    if name not in numbers:
        raise unknown("hyper-parameter", name, numbers)
    spacing = next((word for word in SPACINGS if isinstance(given, Mapping) and set(given) == {word}), None)
    if spacing is None:
        raise UsageError(f"{name} evolves within {given!r}; expected a range such as log:1e-4,1e-2 or linear:0,0.99.")
    low, high = bounds(name, spacing, given[spacing])
    return Dimension(name, low, high, spacing == "log")
