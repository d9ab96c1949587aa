"""The tables of ``rlgd list``: each is a function in ``TABLES``."""

import functools
import importlib.util
from collections.abc import Callable

from rlgd.errors import UsageError, unknown
from rlgd.plugins import Kind
from rlgd.system.commands import as_typed
from rlgd.tables import aligned

Rows = list[list[str]]


def agents() -> Rows:
    """Name, class, description."""
    from rlgd.agents import ALIASES, REGISTRY
    from rlgd.agents.registry import KIND

    names = {name: ", ".join([name, *(alias for alias, of in ALIASES.items() if of == name)]) for name in REGISTRY}
    rows = [[names[name], cls, text] for name, (_, cls, text) in REGISTRY.items()]
    return [["agent", "class", "what it is"], *rows, *_installed(KIND)]


def networks() -> Rows:
    """Name and description."""
    from rlgd.models.own import NETWORK
    from rlgd.models.torsos import NETWORKS

    rows = [[name, "rlgd", about] for name, about in NETWORKS.items()]
    return [["network", "from", "what it is"], *rows, *_installed(NETWORK)]


def _installed(kind: Kind) -> Rows:
    """The parts of installed packages: name, class, where they are from."""
    rows = []
    for name, entry in kind.installed().items():
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an installed package"
        rows.append([name, entry.value, f"of {origin}"])
    return rows


def sinks() -> Rows:
    """Name, how a run gets it, what it is."""
    from rlgd.run.sinks.registry import ALWAYS, KIND, SINKS

    rows = [[name, "always", about] for name, about in ALWAYS.items()]
    for name, sink in SINKS.items():
        extra = f"; pip install 'rlgd[{sink.extra}]'" if sink.extra else ""
        rows.append([name, f"--sink {name}", f"{sink.about}{extra}"])
    others = [[name, f"--sink {name}", f"{cls} {origin}"] for name, cls, origin in _installed(KIND)]
    return [["sink", "a run has it", "what it writes"], *rows, *others]


def presets() -> Rows:
    """Agent, environment, steps, the settings that differ from the agent's defaults, how they were found."""
    from rlgd.agents import REGISTRY
    from rlgd.agents import presets as tuned

    rows = [["agent", "environment", "steps", "settings", "tuned"]]
    for preset in (preset for name in REGISTRY for preset in tuned.of_agent(name).values()):
        settings = " ".join(f"{name}={value}" for name, value in preset.settings.items())
        rows.append([preset.agent, preset.env, f"{preset.total_timesteps:,}", settings or "-", str(preset.tuned)])
    return rows


def envs() -> Rows:
    """The environments with a twin on the device, then the others that Gymnasium has and whose packages are here."""
    import gymnasium

    from rlgd.envs import device_ids
    from rlgd.envs.functional.registration import GAME_IDS
    from rlgd.envs.registry import ENV

    twins = device_ids()
    rows = [["environment", "runs on", "time limit", "solved at"]]
    others = {env_id for ids in _of_gymnasium(True).values() for env_id in ids} - {*twins, *GAME_IDS}
    for env_id in twins + sorted(others):
        spec = gymnasium.registry[env_id]
        limit = "-" if spec.max_episode_steps is None else str(spec.max_episode_steps)
        threshold = "-" if spec.reward_threshold is None else f"{spec.reward_threshold:g}"
        rows.append([env_id, "device, host" if env_id in twins else "host", limit, threshold])
    rows += [[env_id, "device", "-", "-"] for env_id in GAME_IDS.values()]
    return [*rows, *([name, "-", "-", f"{place} {origin}"] for name, place, origin in _installed(ENV))]


# Environments of Gymnasium by the start of their modules: the package that they need, and the extra that brings it.
NEEDED = {
    "gymnasium.envs.box2d": ("Box2D", "box2d"),
    "gymnasium.envs.mujoco": ("mujoco", "mujoco"),
}


def _of_gymnasium(installed: bool) -> dict[str, list[str]]:
    """The ids that Gymnasium has registered and whose packages are installed, or are not, by the extra; "" for none.

    Ids that Gymnasium keeps only to say what took their place are left out.
    """
    import gymnasium

    found: dict[str, list[str]] = {}
    for env_id, spec in gymnasium.registry.items():
        place = spec.entry_point
        if place is None or (callable(place) and place.__module__.startswith("gymnasium.")):
            continue
        module = place if isinstance(place, str) else place.__module__
        package, extra = next((needed for start, needed in NEEDED.items() if module.startswith(start)), ("", ""))
        if installed == (not package or importlib.util.find_spec(package) is not None):
            found.setdefault(extra, []).append(env_id)
    return found


def _further_envs() -> str:
    """What can be installed besides."""
    lines = [
        f"not installed: {sorted(ids)[0]} and {len(ids) - 1} more; pip install 'rlgd[{extra}]'"
        for extra, ids in _of_gymnasium(False).items()
    ]
    atari = "ALE/Pong-v5 and the other games of the Atari 2600"  # ale_py registers them when it is imported
    if importlib.util.find_spec("ale_py") is None:
        lines.append(f"not installed: {atari}; pip install 'rlgd[atari]'")
    else:
        lines.append(f"{atari} are installed too.")
    return "\n".join(["", *lines, "`rlgd list suites` has further ones on the device."])


def suite(prefix: str) -> Rows:
    """The environments of another suite."""
    from rlgd.envs.suites import catalog

    names = catalog.names(prefix)
    if not names:
        raise UsageError(f"{prefix} is not installed; {catalog.how_to_install(prefix)}.")
    return [["environment", "runs on"], *([f"{prefix}:{name}", "device"] for name in names)]


def suites() -> Rows:
    """Prefix, title, how to get it."""
    from rlgd.envs.suites.catalog import SUITES, how_to_install

    rows = [["ids", "suite", "installed"]]
    for prefix, suite in SUITES.items():
        rows.append([f"{prefix}:...", suite.title, "yes" if suite.installed else how_to_install(prefix)])
    return rows


def optimizers() -> Rows:
    """Name, the fields that it uses and their defaults, paper, formula."""
    from rlgd.ascent.optimizers import OPTIMIZERS
    from rlgd.ascent.own import OPTIMIZER

    rows = [["optimizer", "uses, by default", "paper", "the step that is added"]]
    for name, row in OPTIMIZERS.items():
        brought = {} if row.learning_rate is None else {"learning_rate": row.learning_rate}
        defaults = " ".join(f"{field}={value:g}" for field, value in (brought | row.defaults).items())
        rows.append([name, defaults or "-", row.paper, row.formula])
    return [*rows, *([name, "-", origin, place] for name, place, origin in _installed(OPTIMIZER))]


def schedules() -> Rows:
    """How a schedule is written, and its factor at share p of the run."""
    from rlgd.ascent.schedules import COMBINED, SHAPES

    rows = [["schedule", "the factor at share p of the run, in environment steps"]]
    return [*rows, *([name, shape.formula] for name, shape in SHAPES.items()), *map(list, COMBINED.items())]


def studies() -> Rows:
    """Name and question."""
    from rlgd.studies import question

    return [["study", "question"], *map(list, question.shipped_questions().items())]


LEGENDS: dict[str, Callable[[], str]] = {
    "envs": _further_envs,
    "suites": lambda: (
        """
`rlgd list minatar` and the like list their environments."""
    ),
    "optimizers": lambda: (
        """
g: gradient of the objective    w: parameters    a: learning_rate, after its schedule    m: momentum
b: second_moment    e: epsilon    t: number of updates
A prime corrects the bias of an average that began at 0: v' = v / (1 - m^t), s' = s / (1 - b^t).
weight_decay takes a * weight_decay * w from the step of any of them, max_grad_norm bounds |g|; both are off by default
where they are not named. `docs/ascent.md` says more."""
    ),
}


SUITE_PREFIXES = ("minatar", "brax", "craftax", "gymnax", "jumanji", "navix", "pgx", "playground", "playground-warp")
TABLES: dict[str, Callable[[], Rows]] = {
    "agents": agents,
    "presets": presets,
    "envs": envs,
    "suites": suites,
    "networks": networks,
    "optimizers": optimizers,
    "schedules": schedules,
    "studies": studies,
    "sinks": sinks,
    **{prefix: functools.partial(suite, prefix) for prefix in SUITE_PREFIXES},
}


def table(name: str, width: int | None = None) -> str:
    """A table as text in columns, for a terminal of this ``width``.

    Raises:
        UsageError: if there is no such table.
    """
    if name not in TABLES:
        raise unknown("list", name, TABLES)
    rows = [[as_typed(cell) for cell in row] for row in TABLES[name]()]
    return aligned(rows, width) + as_typed(LEGENDS.get(name, str)())
