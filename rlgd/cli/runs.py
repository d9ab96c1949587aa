"""``rlgd runs``."""

import dataclasses
import json
import os

from rlgd.cli.options import flag
from rlgd.cli.output import terminal_width
from rlgd.cli.run_selection import SelectionOptions, number, plain
from rlgd.tables import aligned

SORTED = ("path", "return")


@dataclasses.dataclass(frozen=True)
class Options(SelectionOptions):
    """List the runs in a directory and below it, and what came of them.

    `rlgd runs compare DIR` shows which settings differ, `rlgd runs prune DIR` removes runs.
    """

    sort: str = flag("path", "by path, or by return, the highest first", "path|return")


def run(options: Options) -> int:
    """Print the list."""
    from rlgd.errors import unknown
    from rlgd.run.catalog import rank

    if options.sort not in SORTED:
        raise unknown("order", options.sort, SORTED)
    records = options.records()
    if options.sort == "return":
        records.sort(key=rank)
    if options.json:
        rows = [(record, record.outcome()) for record in records]
        listed = [
            {"run": str(record.directory), "settings": record.settings}
            | {name: value if isinstance(value, str) else plain(value) for name, value in outcome.items()}
            for record, outcome in rows
        ]
        print(json.dumps(listed))
        return 0
    table = [["run", "agent", "environment", "seed", "ended by", "steps", "return", "seconds"]]
    for record in records:
        outcome = record.outcome()
        spread = f"{number(outcome['mean_return'], '.1f')} +- {number(outcome['std_return'], '.1f')}"
        table.append([
            os.path.relpath(record.directory, options.directory), record.agent, record.env,
            str(record.seed), record.state, number(outcome["steps"], ","),
            "-" if spread == "- +- -" else spread, number(outcome["seconds"], ".1f"),
        ])  # fmt: skip
    print(aligned(table, terminal_width()))
    return 0
