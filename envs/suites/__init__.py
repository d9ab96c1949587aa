"""Suites of environments on the device, by prefix: see ``SUITES``."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.envs.suites.catalog import SUITES as SUITES
    from rlgd.envs.suites.catalog import Suite as Suite
    from rlgd.envs.suites.catalog import names as names

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.envs.suites.catalog": (
            "SUITES",
            "Suite",
            "names",
        ),
    },
)
