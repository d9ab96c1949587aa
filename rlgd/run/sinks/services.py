"""What the sinks of services share: how a run is called there, what is known of it after a restart, how it ended."""

import abc
import contextlib
import dataclasses
import json
import uuid
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from rlgd.run import description
from rlgd.run.config import RunConfig
from rlgd.run.layout import SERVICES
from rlgd.run.sinks.rows import Row
from rlgd.run.stopping import SINK
from rlgd.run.summary import INTERRUPTED, ended_by_itself
from rlgd.system import files
from rlgd.system.reading import parse_json, read_text

PROJECT = "rlgd"  # where runs are, unless the service's own variables or the user say otherwise
MAX_TAG, MAX_GROUP = 64, 128  # characters that every service takes


class About(NamedTuple):
    """How a service knows a run.

    Attributes:
        name: of the run.
        group: of the runs that are compared with it: those of its study, or those that differ by their seed alone.
        job_type: its arm in a study; "train" for a run alone.
        tags: agent, environment and seed, and where it belongs.
        values: its hyper-parameters, flat, and its seed.
    """

    name: str
    group: str
    job_type: str
    tags: list[str]
    values: dict[str, Any]


def about(config: RunConfig, run_dir: Path | None) -> About:
    """How services know a run."""
    values = description.hyperparameters(config)
    seed = config.settings.seed
    tags = [str(values["agent"]), config.env.env_id, f"seed{seed}"]
    part_of = config.part_of
    if part_of is None:
        name = f"{values['agent']} seed{seed}" if run_dir is None else run_dir.resolve().name
        group, job_type = description.group(config), "train"
    else:
        name, group, job_type = f"{part_of.arm} seed{seed}", part_of.study, part_of.arm
        tags += [part_of.study, part_of.arm]
    return About(name, group[:MAX_GROUP], job_type[:MAX_TAG], [tag[:MAX_TAG] for tag in tags], values | {"seed": seed})


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A line of ``services.jsonl``: a service, its id of the run, the last step of which it has rows."""

    service: str
    id: Annotated[str, msgspec.Meta(pattern=r"^[\w-]{1,64}$")]
    step: int


class Memory:
    """What a service has of a run already, so that a resumed run continues there, and sends no row twice.

    It is in ``services.jsonl`` of the run's directory; a run without one is new there.

    Attributes:
        id: of the run in the service: one that is new to all services, unless the service has the run. A service that
            gives ids of its own replaces it.
        resumed: whether the service has the run.
    """

    def __init__(self, run_dir: Path | None, service: str) -> None:
        self._path = None if run_dir is None else run_dir / SERVICES
        known = [entry for entry in _entries(self._path) if entry.service == service]
        self._service, self.resumed = service, bool(known)
        self.id, self._sent = (known[-1].id, known[-1].step) if known else (uuid.uuid4().hex, -1)

    def is_new(self, step: int) -> bool:
        """Whether no earlier process has sent the rows of this step."""
        return step > self._sent

    def keep(self, step: int = -1) -> None:
        """Keep the id, and that the service has the rows up to this step."""
        if self._path is not None:
            entry = _Entry(self._service, self.id, max(step, self._sent))
            files.append(self._path, json.dumps(dataclasses.asdict(entry)) + "\n")


class Service(abc.ABC):
    """A sink that sends a run to a service.

    Args:
        options: of the call that begins a run there, in place of what follows from the run.

    Attributes:
        name: of the service.
    """

    name: str

    def __init__(self, **options: Any) -> None:
        self._options = options

    def begin(self, config: RunConfig, run_dir: Path | None) -> None:
        """Begin a run with the hyper-parameters, or go on with it."""
        self._memory = Memory(run_dir, self.name)
        self._start(about(config, run_dir), self._memory)
        self._memory.keep()

    def write(self, row: Row) -> None:
        """Log a row at its step."""
        if self._memory.is_new(row.step):
            self._log(row.values, row.step)
            self._memory.keep(row.step)

    def close(self, summary: dict[str, Any]) -> None:
        """Keep the final evaluation, and end the run."""
        self._end(results(summary), status(summary))

    @abc.abstractmethod
    def _start(self, told: About, memory: Memory) -> None:
        """Begin the run, or go on with it, as the memory says."""

    @abc.abstractmethod
    def _log(self, values: dict[str, float], step: int) -> None:
        """Log values at a step."""

    @abc.abstractmethod
    def _end(self, kept: dict[str, Any], status: str) -> None:
        """Keep what ``results`` gives, and end the run with what ``status`` gives."""


def _entries(path: Path | None) -> list[_Entry]:
    """What a run's directory says of services; damaged lines say nothing."""
    entries = []
    with contextlib.suppress(OSError, ValueError):
        for line in [] if path is None else read_text(path).splitlines():
            with contextlib.suppress(ValueError):
                entries.append(parse_json(line, _Entry))
    return entries


def status(summary: dict[str, Any]) -> str:
    """How a run ended: "finished", "interrupted" or "failed"."""
    if summary["reason"] == INTERRUPTED:
        return "interrupted"
    return "finished" if summary["reason"] == SINK or ended_by_itself(summary["reason"]) else "failed"


def results(summary: dict[str, Any]) -> dict[str, float | str]:
    """What remains of a run: its length, its final evaluation, and what ended it; flat."""
    return {
        f"final/{name}": value
        for name, value in (summary | summary.get("evaluation", {})).items()
        if isinstance(value, int | float | str) and value != ""
    }
