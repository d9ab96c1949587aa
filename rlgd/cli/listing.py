"""``rlgd list``."""

import dataclasses

from rlgd.cli import catalog
from rlgd.cli.options import CommandOptions, positional
from rlgd.cli.output import terminal_width


@dataclasses.dataclass(frozen=True)
class Options(CommandOptions):
    """Print what there is to choose from."""

    thing: str = positional("THING", "what to list")

    def notes(self) -> str:
        """The things that can be listed."""
        return f"THING is one of: {', '.join(catalog.TABLES)}."


def run(options: Options) -> int:
    """Print the table."""
    print(catalog.table(options.thing, terminal_width()))
    return 0
