"""On-device environments of suites, by prefix: our MinAtar, and those of other libraries.

These are extras, imported when one of their environments is made. Wrappers for time limit and reset are not used:
``DeviceEnv`` has both, and keeps the true final observation.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rlgd.envs.mujoco_warnings import show_mujoco_warnings
from rlgd.envs.suites.brax import load_brax, load_playground, playground_names
from rlgd.envs.suites.craftax import NAMES, load_craftax
from rlgd.envs.suites.gymnax import load_gymnax
from rlgd.envs.suites.jumanji import load_jumanji
from rlgd.envs.suites.minatar import load_minatar
from rlgd.envs.suites.navix import load_navix
from rlgd.envs.suites.pgx import load_pgx, pgx_names
from rlgd.envs.suites.suite_env import Loaded, usual_promotion
from rlgd.errors import UsageError, unknown


class Suite(NamedTuple):
    """A suite: its title, the module to import, and two functions of that module, for names and for one environment."""

    title: str
    module: str
    names: Callable[[Any], Iterable[str]]
    load: Callable[[Any, str], Loaded]

    @property
    def installed(self) -> bool:
        """Whether it can be imported, which is not done here."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None


SUITES = {
    "brax": Suite("Brax", "brax.envs", lambda suite: suite._envs, load_brax),
    "craftax": Suite("Craftax", "craftax.craftax_env", lambda suite: NAMES, load_craftax),
    "gymnax": Suite("gymnax", "gymnax", lambda suite: suite.registered_envs, load_gymnax),
    "jumanji": Suite("Jumanji", "jumanji", lambda suite: suite.registered_environments(), load_jumanji),
    "minatar": Suite("MinAtar", "rlgd.envs.functional.minatar", lambda suite: suite.GAMES, load_minatar),
    "navix": Suite("Navix", "navix", lambda suite: suite.registry(), load_navix),
    "pgx": Suite("Pgx", "pgx", pgx_names, load_pgx),
    "playground": Suite("MuJoCo Playground", "mujoco_playground", playground_names, load_playground),
    "playground-warp": Suite(
        "MuJoCo Playground in Warp",
        "mujoco_playground",
        playground_names,
        functools.partial(load_playground, physics="warp"),
    ),
}


def names(prefix: str) -> list[str]:
    """The environments of a suite, sorted; none if it is not installed. Imports the suite.

    Raises:
        UsageError: if there is no suite with that prefix.
    """
    suite = _suite(prefix)
    try:
        return sorted(suite.names(importlib.import_module(suite.module)))
    except ImportError:
        return []


def how_to_install(prefix: str) -> str:
    """The command that installs a suite."""
    return f"pip install 'rlgd[{prefix.partition('-')[0]}]'"


def _suite(prefix: str) -> Suite:
    if prefix not in SUITES:
        raise unknown("suite", prefix, SUITES)
    return SUITES[prefix]


@functools.cache
def load(prefix: str, name: str) -> Loaded:
    """An environment of a suite, and its time limit, which the caller enforces (None: no limit).

    Equal names give the same object, so that nothing compiles twice.

    Raises:
        UsageError: for an unknown prefix or name, a suite that is not installed, and an environment that cannot be
            made.
    """
    suite = _suite(prefix)
    try:
        module = importlib.import_module(suite.module)
    except ImportError as error:
        raise UsageError(f"{prefix}:{name} needs {suite.title}; {how_to_install(prefix)} ({error}).") from error
    show_mujoco_warnings()
    known = set(suite.names(module))
    if name not in known:
        raise unknown(f"{suite.title} environment", name, known)
    try:
        with usual_promotion():
            return suite.load(module, name)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{prefix}:{name} cannot be made: {error}") from error
