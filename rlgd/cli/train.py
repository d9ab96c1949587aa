"""``rlgd train``."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rlgd.cli import dry_run, near_misses
from rlgd.cli.flag_files import read_flags
from rlgd.cli.options import UNKNOWN, RunOptions, filled, flag, flags_of, part, positional
from rlgd.cli.output import announce, report, sinks_of
from rlgd.errors import UsageError
from rlgd.system import signals

if TYPE_CHECKING:
    from rlgd.agents.base.agent import Agent
    from rlgd.envs import Env
    from rlgd.run.settings import RunSettings


class Origin(NamedTuple):
    """Where settings come from that no flag gives: a sentence, and what a preset or rules set, by flags."""

    sentence: str
    settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Options(RunOptions):
    """Train an agent, write its curves and its checkpoints to runs/, and evaluate it."""

    agent: str = positional("AGENT", "an agent of `rlgd list agents`", near_misses.agent)
    env: str | None = flag(
        None, "Gymnasium id, such as CartPole-v1; see `rlgd list envs` and `rlgd list suites`", "ID", group="run"
    )
    preset: bool = flag(True, "take what was tuned for the agent in this environment; flags override it", group="run")
    auto: bool = flag(
        False,
        "choose settings by rule instead, from the environment's spaces, its time limit and a short play; flags "
        "override them",
        group="run",
    )
    config: str | None = flag(
        None, "take flags from a run's config.json, or from a TOML file of flags", "FILE", group="run"
    )
    hyperparameters: "Agent" = dataclasses.field(default=UNKNOWN, metadata=part())
    settings: "RunSettings" = dataclasses.field(default=UNKNOWN, metadata=part())
    run_dir: str | None = flag(
        None, "where to write; the default is runs/<env>/<agent>/<time>-<settings>-seed<seed>", "DIR", group="output"
    )
    overwrite: bool = flag(False, "replace the run that --run-dir holds", group="output")
    dry_run: bool = flag(
        False,
        "compile, print the settings as a file for --config, with memory and time to compile, and stop",
        group="output",
    )
    origin: Origin | None = None
    from_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Self:
        """The agent's own values, over them the preset's, over them those of the ``--config`` file."""
        from rlgd.agents import make_agent
        from rlgd.run.settings import RunSettings

        name = given["agent"]
        from_config = _from_config(given["config"], name) if "config" in given else {}
        options = cls(agent=name, hyperparameters=make_agent(name), settings=RunSettings())
        options = dataclasses.replace(filled(options, from_config), from_config=from_config)
        if not given.get("env") and options.env is not None:
            from rlgd.envs.registry import refuse_module_id

            refuse_module_id(str(options.env))
        known = from_config | dict(given)
        if known.get("auto") or not known.get("preset", True):
            return options
        origin = _origin(options, known)
        return dataclasses.replace(filled(options, origin.settings), origin=origin) if origin else options

    def notes(self) -> str:
        """The agents where none is chosen yet; else where the settings come from."""
        if self.hyperparameters is UNKNOWN:
            return agents_note()
        return self.origin.sentence if self.origin else ""


def agents_note() -> str:
    """The agents to choose from."""
    from rlgd.agents import ALIASES, REGISTRY

    rows = {name: text for name, (_, _, text) in REGISTRY.items()}
    rows |= {alias: f"another name for {name}" for alias, name in ALIASES.items()}
    lines = "\n".join(f"  {name:14}{text}" for name, text in rows.items())
    return f"agents:\n{lines}\n\n`rlgd train AGENT --help` shows the agent's flags too."


def _from_config(path: str, agent: str) -> dict[str, Any]:
    """The flags of a ``--config`` file, which must not be another agent's."""
    from rlgd.agents import agent_class

    flags, written_for = read_flags(path)
    if written_for is not None and not (
        isinstance(written_for, str) and agent_class(written_for) is agent_class(agent)
    ):
        raise UsageError(f"--config {path} is for the agent {written_for!r}, not for {agent!r}.")
    return flags


def _origin(options: Options, known: Mapping[str, Any]) -> Origin | None:
    """What the agent's preset for the environment sets beside the ``known`` flags.

    None where all of the agent's flags are known, or all that the preset sets.
    """
    env_id = known.get("env")
    if not isinstance(env_id, str):  # `run` says what is wrong
        return None
    from rlgd.agents import presets, registered_name
    from rlgd.envs import full_id

    name, env_id = registered_name(options.agent), full_id(env_id)
    preset = presets.known(name, env_id)
    if preset is None:
        own = {flag.name for flag in flags_of(options).values() if flag.path[0] == "hyperparameters"}
        return None if own <= known.keys() else Origin(f"no preset of {name} for {env_id}: the agent's defaults", {})
    taken = {flag: value for flag, value in preset.flags.items() if flag not in known}
    if not taken:
        return None
    others = [f"--{flag.replace('_', '-')}" for flag in preset.flags if flag in known]
    steps = f" ({preset.total_timesteps:,} steps)" if "total_timesteps" in taken else ""
    but = f", but for {', '.join(others)}" if others else ""
    return Origin(f"preset: {name} for {env_id}{steps}{but}; --no-preset ignores it", taken)


def _by_rule(options: Options, env: "Env") -> Options:
    """The options with what rules set for the environment, but for what command line and ``--config`` file say."""
    from rlgd.agents import registered_name
    from rlgd.run import by_rule

    said = {**options.from_config, **options.given}
    own = {flag.name for flag in flags_of(options).values() if flag.path[0] == "hyperparameters"}
    given = {name: value for name, value in said.items() if name in own}
    found = by_rule.rules(options.hyperparameters, env, given)
    what = ", ".join(map(str, found)) or "no rule applies"
    sentence = f"by rule: {registered_name(options.agent)} for {env.env_id}: {what}"
    chosen = by_rule.settings(found)
    return dataclasses.replace(filled(options, chosen | given), origin=Origin(sentence, chosen))


def run(options: Options) -> int:
    """Check everything, say what will run where and where its settings come from, train."""
    if options.env is None:
        raise UsageError("--env is missing; for example --env CartPole-v1. `rlgd list envs` lists what is installed.")
    with _named(options.origin):
        return _start(options)


@contextlib.contextmanager
def _named(origin: Origin | None) -> Iterator[None]:
    """Name where settings come from in a mistake: what does not fit may come from there."""
    try:
        yield
    except UsageError as error:
        if origin is None or not {*origin.settings} - {"total_timesteps"}:
            raise
        raise UsageError(f"{error} ({origin.sentence})") from error


def _start(options: Options) -> int:
    from rlgd.cli import jax_setup
    from rlgd.run import description, inheritance, layout
    from rlgd.run.config import RunConfig, agent_name
    from rlgd.training import footprint

    agent, settings = options.hyperparameters, options.settings
    agent.validate()
    config = RunConfig(agent, settings.env.make(options.env), settings)
    config.validate()
    jax_setup.set_up(config, options.computing, processes=options.processes)
    if options.auto:
        options = _by_rule(options, config.env)
        config = dataclasses.replace(config, agent=options.hyperparameters)
        with _named(options.origin):
            config.validate()
    footprint.check(config.agent, config.env)
    config = inheritance.read(config)  # a mistake is found before a directory is made
    origin = options.origin.sentence if options.origin else None
    if options.dry_run:
        return dry_run.show(config, options.agent, options, origin)
    from rlgd.run.api import execute
    from rlgd.system.processes import is_first

    first = is_first()
    sinks = sinks_of(options, settings.total_timesteps) if first else []
    if options.run_dir:
        directory = Path(options.run_dir)
    elif first:
        directory = layout.automatic(
            *(Path("runs"), config.env.env_id, agent_name(config.agent).rpartition(":")[2], settings.seed),
            description.short(config, options.origin.settings if options.origin else {}),
        )
    else:
        directory = Path("runs")  # another process chooses where in it
    if not first:  # it trains, and says nothing
        with signals.caught() as poll_signal:
            execute(config, directory, options.overwrite, (), poll_signal, metrics=False)
        return 0
    announce(config, options, origin)
    with signals.caught() as poll_signal:
        result = execute(config, directory, options.overwrite, sinks, poll_signal, metrics=False)
    return report(result, config.evaluation_env.env_id, options)
