"""``rlgd study list``."""

import dataclasses

from rlgd.cli import catalog
from rlgd.cli.options import CommandOptions
from rlgd.cli.output import terminal_width


@dataclasses.dataclass(frozen=True)
class Options(CommandOptions):
    """List the studies that ship with rlgd."""


def run(options: Options) -> int:
    """Print the table."""
    print(catalog.table("studies", terminal_width()))
    return 0
