"""The runs below a directory: which there are, how each was set, and what came of it.

What lists them imports no JAX; what needs it (all settings, the curves) is imported where it is used.
"""

import dataclasses
import functools
import itertools
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlgd.agents.registry import registered_name
from rlgd.errors import RlgdError, UsageError
from rlgd.frames import frame
from rlgd.run.config_content import read_content
from rlgd.run.layout import CONFIG, METRICS
from rlgd.run.summary import ended_by_itself, read_summary
from rlgd.system import lock

if TYPE_CHECKING:
    from rlgd.run.sinks.rows import Row

log = logging.getLogger("rlgd")

RUNNING, UNFINISHED = "running", "unfinished"
OUTCOMES = ("state", "steps", "seconds", "mean_return", "std_return", "best_return")  # keys of ``RunRecord.outcome``


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run on disk.

    Attributes:
        directory: the run's.
        content: what its ``config.json`` has.
        summary: what it wrote at its end; empty if it wrote none.
        running: whether a process writes it now.
    """

    directory: Path
    content: dict[str, Any]
    summary: dict[str, Any]
    running: bool

    @property
    def agent(self) -> str:
        """The name of its agent in files."""
        return self.content["agent"]

    @property
    def env(self) -> str:
        """The id of its environment."""
        return self.content["env"]["id"]

    @property
    def seed(self) -> Any:
        """Its seed."""
        return self.content["settings"].get("seed")

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Its agent, its environment, its hyper-parameters and its settings, by their names."""
        from rlgd.run.config_file import with_newer

        whole = with_newer(self.content)
        return {"agent": self.agent, "env": self.env} | whole["hyperparameters"] | whole["settings"]

    @property
    def state(self) -> str:
        """``RUNNING``, what ended the run, or ``UNFINISHED``."""
        return RUNNING if self.running else str(self.summary.get("reason", UNFINISHED))

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end, by its steps or by a criterion."""
        return ended_by_itself(self.state)

    def outcome(self) -> dict[str, Any]:
        """What came of the run, by ``OUTCOMES``; NaN for what it does not have yet."""
        evaluation, best = (_table(self.summary.get(name)) for name in ("evaluation", "best"))
        return {
            "state": self.state,
            "steps": _number(self.summary.get("steps")),
            "seconds": _number(self.summary.get("training_seconds")),
            "mean_return": _number(evaluation.get("mean_return")),
            "std_return": _number(evaluation.get("std_return")),
            "best_return": _number(best.get("mean_return")),
        }

    def rows(self) -> "Iterator[Row]":
        """The rows of its curves."""
        from rlgd.run.sinks.metrics_file import read_rows

        return read_rows(self.directory / METRICS)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else math.nan


def find(root: Path) -> list[RunRecord]:
    """The runs in a directory and in those below it, by their paths; one that cannot be read is named in the log.

    Raises:
        UsageError: if there is no such directory.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no directory; runs are in runs/, or where --run-dir says.")
    found = []
    for directory in directories(root):
        try:
            found.append(_record(directory))
        except (RlgdError, OSError) as error:
            log.warning("%s", error)
    return sorted(found, key=lambda record: record.directory)


def directories(root: Path) -> Iterator[Path]:
    """The directories of the runs in a directory and in those below it."""
    for place, folders, files in os.walk(root):
        folders.sort()
        if CONFIG in files:
            folders.clear()  # a run has no runs in it
            yield Path(place)


def _record(directory: Path) -> RunRecord:
    return RunRecord(directory, read_content(directory), read_summary(directory), lock.is_held(directory))


def chosen(records: Iterable[RunRecord], agent: str | None = None, env: str | None = None) -> list[RunRecord]:
    """The records of an agent, or of an environment, or of both.

    Raises:
        UsageError: for an unknown agent.
    """
    name = None if agent is None else registered_name(agent)
    return [
        record for record in records if (name is None or record.agent == name) and (env is None or record.env == env)
    ]


class Comparison(NamedTuple):
    """Runs in groups that differ by their seed alone.

    Attributes:
        names: the settings that differ between the groups.
        groups: the values of these settings, and the runs.
    """

    names: list[str]
    groups: list[tuple[list[Any], list[RunRecord]]]


def compare(records: Iterable[RunRecord]) -> Comparison:
    """The settings that differ between runs; the group with the highest mean return comes first."""
    records = list(records)
    every = dict.fromkeys(itertools.chain(*(record.settings for record in records)))

    def text(record: RunRecord, name: str) -> str:
        return json.dumps(record.settings.get(name), sort_keys=True)

    names = [name for name in every if name != "seed" and len({text(record, name) for record in records}) > 1]
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        groups.setdefault(tuple(text(record, name) for name in names), []).append(record)
    ranked = sorted(groups.values(), key=lambda group: -_or_lowest(mean_return(group)))
    return Comparison(names, [([group[0].settings.get(name) for name in names], group) for group in ranked])


def rank(record: RunRecord) -> float:
    """Sorts runs: the highest return first, those without one last."""
    return -_or_lowest(record.outcome()["mean_return"])


def _or_lowest(number: float) -> float:
    return -math.inf if math.isnan(number) else number


def returns(records: Iterable[RunRecord]) -> list[float]:
    """The mean return at the end of each run that has one."""
    return [value for record in records if not math.isnan(value := record.outcome()["mean_return"])]


def mean_return(records: Iterable[RunRecord]) -> float:
    """The mean of ``returns``; NaN if there are none."""
    known = returns(records)
    return sum(known) / len(known) if known else math.nan


def runs(root: str | Path = "runs", curves: bool = False) -> Any:
    """The runs below a directory as a ``pandas.DataFrame``.

    Args:
        root: such as ``runs``, or the directory of one run.
        curves: their curves in place of their settings.

    Returns:
        A row for each run, with its directory as the index: its settings, and what came of it (``OUTCOMES``). Or a row
        for each row of the curves of each run: ``run`` (the directory), ``step``, ``seconds`` and the metrics.

    Raises:
        UsageError: if there is no such directory, or pandas is not installed.
    """
    records = find(Path(root))
    if curves:
        rows = ((str(record.directory), row) for record in records for row in record.rows())
        return frame([{"run": run, "step": row.step, "seconds": row.seconds, **row.values} for run, row in rows])
    return frame([{"run": str(record.directory), **record.settings, **record.outcome()} for record in records], "run")
