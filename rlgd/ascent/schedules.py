"""Schedules: how a hyper-parameter changes over a run, as a factor that is a function of the share of the run done.

The unit is the share of the run in [0, 1], counted in environment steps, never in updates: the number of updates
depends on the agent and, with whole episodes, on the data. A resumed run continues at the same share, and a run that is
extended stretches its schedules to the new end.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from rlgd.errors import UsageError, unknown
from rlgd.hyperparameters import hyperparameters, static
from rlgd.pytrees import Scalar

SYNTAX = (
    "constant, linear[:END], cosine[:END], exponential:END, piecewise:SHARE=FACTOR,..., or warmup:SHARE+any of them"
)
SMALLEST, LARGEST = 1e-30, 1e6  # bounds of factors: float32 has little beyond them


@hyperparameters
class Schedules:
    """How learning rate and momentum change over the run: each is multiplied by a factor.

    A schedule is text such as "linear" or "warmup:0.05+cosine:0.1". The factor is a function of the share of the run
    done, in [0, 1]; ``SHAPES`` and ``COMBINED`` have the formulas.
    """

    schedule: str = static("constant", f"factor of the learning rate over the run: {SYNTAX}")
    momentum_schedule: str = static("constant", "factor of the momentum over the run, as for schedule")

    def check(self) -> None:
        """Refuse what is not a schedule.

        Raises:
            UsageError: what was given, what is allowed, the nearest name.
        """
        check(self.schedule)
        parse(self.momentum_schedule)

    @property
    def momentum_changes(self) -> bool:
        """Whether the momentum has a schedule."""
        return self.momentum_schedule != "constant"

    def learning_rate_at(self, learning_rate: Scalar, progress: Scalar) -> Array:
        """A learning rate as applied, at the share ``progress`` of the run, ``[...]``."""
        return applied(learning_rate, self.schedule, progress)

    def momentum_at(self, momentum: Scalar, progress: Scalar) -> Array:
        """A momentum as applied, at the share ``progress`` of the run, ``[...]``."""
        return applied(momentum, self.momentum_schedule, progress)


class Shape(NamedTuple):
    """A kind of schedule.

    Attributes:
        formula: the factor at the share p of the run; END is the number after the colon.
        factor: the function of ``p [...]``, in [0, 1], and END.
        end: the default of END; None: it must be given.
    """

    formula: str
    factor: Callable[[Array, float], Array]
    end: float | None


SHAPES: dict[str, Shape] = {
    "constant": Shape("1", lambda p, end: jnp.ones_like(p), 1.0),
    "linear": Shape("1 - (1 - END) p; END is 0 if it is left out", lambda p, end: 1 - (1 - end) * p, 0.0),
    "cosine": Shape(
        "END + (1 - END) (1 + cos(pi p)) / 2; END is 0 if it is left out",
        lambda p, end: end + (1 - end) * 0.5 * (1 + jnp.cos(math.pi * p)),
        0.0,
    ),
    "exponential": Shape("END^p", lambda p, end: jnp.power(end, p), None),
}
COMBINED = {
    "piecewise": "straight lines between the points SHARE=FACTOR, level outside; equal shares make a step",
    "warmup": "p / SHARE until then; the schedule after the + runs over the rest of the run",
}


class Schedule(NamedTuple):
    """A schedule, parsed.

    Attributes:
        shape: a name in ``SHAPES``, or "piecewise".
        end: the factor at the end of the run.
        points: of "piecewise", (share, factor).
        warmup: the share of the run during which the factor rises from 0; 0 without a warmup.
    """

    shape: str
    end: float = 0.0
    points: tuple[tuple[float, float], ...] = ()
    warmup: float = 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest factor of the run."""
        ends = [factor for _, factor in self.points] or [1.0, self.end]
        if self.warmup:
            ends += [0.0, 1.0]
        return min(ends), max(ends)


def _refuse(text: str, why: str) -> UsageError:
    return UsageError(f"schedule {text!r}: {why}; allowed: {SYNTAX}.")


def _number(text: str, whole: str, most: float = LARGEST) -> float:
    try:
        number = float(text)
    except ValueError:
        raise _refuse(whole, f"{text!r} is not a number") from None
    if not 0 <= number <= most:
        raise _refuse(whole, f"{text} does not lie in [0, {most:g}]")
    return number


def check(text: str) -> None:
    """Refuse what is not a schedule, and one under which nothing changes.

    Raises:
        UsageError: what was given, what is allowed.
    """
    if parse(text).bounds[1] == 0:
        raise _refuse(text, "its factor is 0 in the whole run, so nothing is learned")


@functools.lru_cache
def parse(text: str) -> Schedule:
    """Read a schedule such as ``"linear"``, ``"warmup:0.05+cosine:0.1"`` or ``"piecewise:0.5=1,0.5=0.1"``.

    Raises:
        UsageError: what was given, what is allowed, the nearest name.
    """
    if not text.startswith("warmup:"):
        return _parse_shape(text, text)
    share, plus, rest = text.removeprefix("warmup:").partition("+")
    return _parse_shape(rest if plus else "constant", text)._replace(warmup=_number(share, text, most=1.0))


def _parse_shape(part: str, text: str) -> Schedule:
    name, colon, argument = part.partition(":")
    if name == "piecewise":
        return Schedule(name, points=_points(argument, text))
    if name not in SHAPES:
        raise unknown("schedule", name, [*SHAPES, "piecewise", "warmup:SHARE"])
    end = SHAPES[name].end
    if name == "constant" and colon:
        raise _refuse(text, "a constant takes no number")
    if colon:
        end = _number(argument, text)
    if end is None:
        raise _refuse(text, f"{name} needs a number, its factor at the end")
    if name == "exponential" and end < SMALLEST:
        raise _refuse(text, f"an exponential never reaches 0; its end is at least {SMALLEST:g}")
    return Schedule(name, end)


def _points(argument: str, text: str) -> tuple[tuple[float, float], ...]:
    pairs = [pair.partition("=") for pair in argument.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise _refuse(text, "each point is SHARE=FACTOR")
    points = tuple((_number(share, text, most=1.0), _number(factor, text)) for share, _, factor in pairs)
    if list(points) != sorted(points, key=lambda point: point[0]):
        raise _refuse(text, "the shares have to rise")
    return points


def applied(value: Scalar, text: str, progress: Scalar) -> Array:
    """A hyper-parameter with the schedule ``text`` as applied, at the share ``progress`` of the run, ``[...]``."""
    now = factor(text, progress)
    return jnp.asarray(value, now.dtype) * now


def factor(text: str, progress: Scalar) -> Array:
    """The factor of the schedule ``text`` at the share ``progress`` of the run, ``[...]``.

    Shares outside [0, 1] count as 0 or 1. The factor has the dtype of ``progress`` if that is an array of floats.
    """
    schedule = parse(text)
    is_float = isinstance(progress, Array) and jnp.issubdtype(progress.dtype, jnp.floating)
    done = jnp.clip(progress if is_float else jnp.asarray(progress, float), 0, 1)
    warmup = schedule.warmup
    rest = jnp.clip((done - warmup) / max(1 - warmup, 1e-9), 0, 1) if warmup else done
    if schedule.shape == "piecewise":
        shares, factors = (jnp.asarray(values, done.dtype) for values in zip(*schedule.points, strict=True))
        # Where points have equal shares the last one counts, at the end of the run too.
        value = jnp.where(rest >= shares[-1], factors[-1], jnp.interp(rest, shares, factors))
    else:
        value = SHAPES[schedule.shape].factor(rest, schedule.end)
    return jnp.where(done < warmup, done / warmup, value) if warmup else value
