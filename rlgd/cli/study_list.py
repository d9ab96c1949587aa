"""``rlgd study list``."""

import dataclasses

from rlgd.cli import catalog
from rlgd.cli.options import CommandOptions


@dataclasses.dataclass(frozen=True)
class Options(CommandOptions):
    """List the studies that ship with rlgd."""


def run(options: Options) -> int:
    """Print the table."""
    print(catalog.table("studies"))
    return 0
