"""``rlgd runs prune``."""

import dataclasses
import json
from typing import TYPE_CHECKING

from rlgd.cli.options import flag
from rlgd.cli.output import say
from rlgd.cli.run_selection import SelectionOptions, number
from rlgd.errors import UsageError

if TYPE_CHECKING:
    from rlgd.run.catalog import RunRecord


@dataclasses.dataclass(frozen=True)
class Options(SelectionOptions):
    """Say which runs would be removed; with --yes, remove them, and nothing that rlgd did not write.

    A run is removed if all that is given applies to it. A run that a process is writing is never removed.
    """

    unfinished: bool = flag(False, "runs that were not trained to their end")
    below: float | None = flag(None, "runs whose mean return at the end is lower", "RETURN")
    older_than: float | None = flag(None, "runs that nothing was written to for this number of days", "DAYS")
    keep: int | None = flag(
        None, "all but this number with the highest returns, of each agent in each environment", "N"
    )
    yes: bool = flag(False, "remove them")


def run(options: Options) -> int:
    """Print what would be removed, or remove it."""
    from rlgd.run import pruning

    wish = pruning.Wish(options.unfinished, options.below, options.older_than, options.keep)
    chosen = pruning.chosen(options.records(), wish)
    sizes = [pruning.size(record.directory) for record in chosen]
    if options.yes:
        chosen = [record for record in chosen if _removed(record)]
    if options.json:
        print(json.dumps({"removed": options.yes, "runs": [str(record.directory) for record in chosen]}))
        return 0
    for record in chosen:
        mean = number(record.outcome()["mean_return"], ".1f")
        print(f"{'removed' if options.yes else 'would remove'} {record.directory} ({record.state}, return {mean})")
    hint = "" if options.yes or not chosen else "; --yes removes them"
    print(f"{len(chosen)} run{'s' * (len(chosen) != 1)}, {sum(sizes) / 2**20:.1f} MiB{hint}")
    return 0


def _removed(record: "RunRecord") -> bool:
    """Remove a run; False if that is not possible, for example because a process has begun to write it."""
    from rlgd.run import pruning

    try:
        pruning.remove(record.directory)
    except UsageError as error:
        say(str(error))
        return False
    return True
