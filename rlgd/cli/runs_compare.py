"""``rlgd runs compare``."""

import dataclasses
import json

from rlgd.cli.output import terminal_width
from rlgd.cli.run_selection import SelectionOptions, number, plain
from rlgd.tables import aligned


@dataclasses.dataclass(frozen=True)
class Options(SelectionOptions):
    """Show which settings of the runs in a directory differ, and what came of them.

    Runs that differ by their seed alone are one row; the highest return comes first.
    """


def run(options: Options) -> int:
    """Print the comparison."""
    from rlgd.run import catalog

    comparison = catalog.compare(options.records())
    if options.json:
        rows = [
            dict(zip(comparison.names, values, strict=True))
            | {"runs": [str(record.directory) for record in group], "mean_return": plain(catalog.mean_return(group))}
            for values, group in comparison.groups
        ]
        print(json.dumps(rows))
        return 0
    table = [[*comparison.names, "runs", "finished", "return", "from", "to"]]
    for values, group in comparison.groups:
        returns = catalog.returns(group)
        ends = [number(end(returns), ".1f") if returns else "-" for end in (min, max)]
        counts = [str(len(group)), str(sum(record.is_finished for record in group))]
        mean = number(catalog.mean_return(group), ".1f")
        table.append([*(json.dumps(value).strip('"') for value in values), *counts, mean, *ends])
    print(aligned(table, terminal_width()))
    return 0
