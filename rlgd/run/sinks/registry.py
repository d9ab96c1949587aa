"""The sinks by name: which there are, and how to make one. Listing them imports no JAX.

Sinks of users have names too; ``rlgd.plugins`` says which, and when they are imported.
"""

import importlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from rlgd.errors import UsageError
from rlgd.plugins import Kind, described
from rlgd.run.sinks import EVENTS


class Shipped(NamedTuple):
    """A sink of rlgd that a run has if it is asked for.

    Attributes:
        module, cls: where it is.
        extra: of rlgd, which it needs; None: none.
        about: what it writes.
    """

    module: str
    cls: str
    extra: str | None
    about: str


SINKS = {
    "csv": Shipped("rlgd.run.sinks.csv_file", "CSV", None, "metrics.csv in the run's directory, a column a metric"),
    "wandb": Shipped("rlgd.run.sinks.wandb", "WandB", "wandb", "Weights & Biases"),
    "mlflow": Shipped("rlgd.run.sinks.mlflow", "MLflow", "mlflow", "MLflow: a server, or a local database"),
    "comet": Shipped("rlgd.run.sinks.comet", "Comet", "comet", "Comet"),
    "trackio": Shipped("rlgd.run.sinks.trackio", "Trackio", "trackio", "trackio: a local database"),
}
# What every run has, and nobody has to ask for.
ALWAYS = {
    "console": "what a terminal shows while a run trains; --quiet leaves it out",
    "metrics": "metrics.jsonl in the run's directory, a row a line",
    "tensorboard": "event files in the run's directory",
}


def _check(name: str, part: Any) -> None:
    if not any(callable(getattr(part, event, None)) for event in EVENTS):
        raise UsageError(f"the sink {name!r} is {part!r}; expected a class with one of {', '.join(EVENTS)}.")


KIND = Kind("sink", (*SINKS, *ALWAYS), _check)


def parts_of(given: Iterable[Any], typed: bool = True) -> list[Any]:
    """The classes of sinks that are given by name; what is no name stays as it is.

    Args:
        given: names, classes and objects.
        typed: whether the user named them; what a file names may not be imported, see ``rlgd.plugins``.

    Raises:
        UsageError: naming the nearest known name, or what the user may do.
    """
    names = [given] if isinstance(given, str) else given
    return [_part_of(value, typed) for value in names]


def made(parts: Iterable[Any], has_directory: bool = True) -> list[Any]:
    """The sinks of a run: an object of each class, and the objects themselves.

    Args:
        parts: of ``parts_of``.
        has_directory: whether the run has one.

    Raises:
        UsageError: if a class makes no object, or a sink writes in a directory that the run does not have.
    """
    sinks = []
    for part in parts:
        try:
            sink = part() if isinstance(part, type) else part
        except Exception as error:  # code of users and services runs here
            raise UsageError(f"the sink {described(part)} cannot be made: {type(error).__name__}: {error}.") from error
        if not has_directory and getattr(sink, "needs_directory", False):
            raise UsageError(f"the sink {sink.name} writes in a run's directory, and here is none.")
        sinks.append(sink)
    return sinks


def _part_of(value: Any, typed: bool) -> Any:
    if not isinstance(value, str):
        _check(described(value), value)
        return value
    if value in ALWAYS:
        raise UsageError(f"the sink {value!r} is part of every run; nobody has to ask for it.")
    if value not in SINKS:
        return KIND.named(value) if typed else KIND.get(value)
    module, cls, extra, _ = SINKS[value]
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError as error:
        raise UsageError(
            f"the sink {value!r} needs a package ({error}); install it: pip install 'rlgd[{extra}]'."
        ) from error
