"""Which runs the commands take: one, or those that ``rlgd runs`` shows, and how it shows them."""

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rlgd.cli.options import CommandOptions, flag, positional

if TYPE_CHECKING:
    from rlgd.run.catalog import RunRecord


@dataclasses.dataclass(frozen=True)
class SelectionOptions(CommandOptions):
    """Options that choose runs."""

    directory: str = positional("DIR", "where the runs are, such as runs")
    agent: str | None = flag(None, "only runs of this agent", "AGENT")
    env: str | None = flag(None, "only runs in this environment", "ID")
    json: bool = flag(False, "print one JSON document on standard output, and nothing else there")
    debug: bool = flag(False, "show the traceback of a failure")

    def records(self) -> "list[RunRecord]":
        """The runs.

        Raises:
            UsageError: if there is no such directory or agent, or none of its runs is chosen.
        """
        from rlgd.errors import UsageError
        from rlgd.run import catalog

        records = catalog.chosen(catalog.find(Path(self.directory)), self.agent, self.env)
        if not records:
            wanted = [f" of {self.agent}" if self.agent else "", f" in {self.env}" if self.env else ""]
            raise UsageError(f"{self.directory} holds no run{''.join(wanted)}.")
        return records


def newest(command: str, word: str) -> str:
    """The run that a word means: of a directory with runs below it, the newest that can be read."""
    from rlgd.run.layout import CONFIG

    place = Path(word)
    if (place / CONFIG).exists() or not place.is_dir():
        return word
    from rlgd.errors import RlgdError
    from rlgd.run.catalog import directories
    from rlgd.run.config_content import read_content

    for run in sorted(directories(place), key=lambda run: _changed(run / CONFIG), reverse=True):
        with contextlib.suppress(RlgdError, OSError):  # a file of another program has the same name
            read_content(run)
            return str(run)
    return word


def _changed(path: Path) -> int:
    """When a file was changed; 0 if it has gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def number(value: float, form: str) -> str:
    """A number of a table; "-" where there is none."""
    return "-" if math.isnan(value) else format(value, form)


def plain(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else value
