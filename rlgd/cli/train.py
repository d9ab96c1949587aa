"""``rlgd train``."""

from pathlib import Path
from typing import Any

from rlgd.cli.config_files import from_file, read_config
from rlgd.cli.flags import (
    Flags,
    counts,
    doc,
    is_given,
    key_value,
    option_value,
    output_flags,
    parse,
    saving_flags,
    setting_flags,
    stopping_flags,
    with_defaults,
)
from rlgd.cli.output import announce, console_sinks, report
from rlgd.errors import UsageError
from rlgd.system import signals

TRAIN_HELP = """\
usage: rlgd train AGENT --env ID [flags]

Train an agent, write its curves and its checkpoint to runs/, and evaluate it.

agents:
{agents}

`rlgd train AGENT --help` lists the agent's flags; `rlgd list envs` the environments.
"""


def train_flags() -> Flags:
    """Flags of ``rlgd train`` beside the agent's."""
    number = counts()
    return {
        "env": doc(str | None, "Gymnasium id, such as CartPole-v1 (required)", None),
        "total_timesteps": doc(number, "environment steps to train for", 100_000),
        "seed": doc(int, "of everything random", 0),
        "preset": doc(bool, "take what was tuned for the agent in this environment; other flags come first", True),
        "config": doc(str | None, "take flags from a run's config.json, or from a TOML file of flags", None),
        "env_arg": doc(tuple[str, ...], "arguments for the environment, key=value", ()),
        "max_episode_steps": doc(int | None, "a time limit instead of the registered one", None),
        "backend": doc(str, "auto, device or host: where the environment runs", "auto"),
        "vectorization": doc(
            str, "auto, native, sync, async or envpool: how environments on the host are stepped", "auto"
        ),
        "env_timeout": doc(float | None, "seconds that a step on the host may take, in worker processes", None),
        "act_device": doc(str, "auto, cpu or gpu: where the policy acts in environments on the host", "auto"),
        **saving_flags(),
        **stopping_flags(),
        "run_dir": doc(str | None, "where to write; by default runs/<env>/<agent>/<time>-seed<seed>", None),
        "overwrite": doc(bool, "replace the run that --run-dir holds", False),
        **output_flags(),
    }


def train(argv: list[str]) -> int:
    """``rlgd train``."""
    from rlgd.agents import ALIASES, REGISTRY

    if not argv or argv[0] in ("-h", "--help"):
        rows = {name: text for name, (_, _, text) in REGISTRY.items()}
        rows |= {alias: f"another name for {name}" for alias, name in ALIASES.items()}
        print(TRAIN_HELP.format(agents="\n".join(f"  {name:14}{text}" for name, text in rows.items())), end="")
        return 0 if argv else 2
    from rlgd.agents import make_agent

    name, argv = argv[0], argv[1:]
    agent = make_agent(name)
    own, common = setting_flags(agent), train_flags()
    flags = {**{k: common[k] for k in ("env", "total_timesteps", "seed")}, **own, **common}
    values: dict[str, Any] = {}
    env_id: Any = option_value(argv, "env")
    if (path := option_value(argv, "config")) is not None:
        values, written_for = read_config(path)
        if written_for is not None and not (isinstance(written_for, str) and make_agent(written_for) == agent):
            raise UsageError(f"--config {path} is for the agent {written_for!r}, not for {name!r}.")
        flags = with_defaults(flags, values)
        if not env_id and "env" in values:
            env_id = values["env"]
            from_file(env_id)
    given = {*values, *(flag for flag in flags if is_given(argv, flag))}
    preset: dict[str, Any] = {}
    origin: str | None = None
    ignored = any(word.replace("_", "-") == "--no-preset" for word in argv)
    if not ignored and (is_given(argv, "preset") or values.get("preset", True)):
        preset, origin = preset_for(name, env_id, given, set(own))
    about = " ".join(filter(None, (f"Train {type(agent).__name__} and evaluate it.", origin)))
    options = parse(f"rlgd train {name}", with_defaults(flags, preset), argv, about)
    if options.env is None:
        raise UsageError("--env is missing; for example --env CartPole-v1. `rlgd list envs` lists what is installed.")
    try:
        return start_run(make_agent(name, **{key: getattr(options, key) for key in own}), options, origin)
    except UsageError as error:
        if own.keys().isdisjoint(preset):
            raise
        raise UsageError(f"{error} ({origin})") from error  # what does not fit may be the preset's


def preset_for(agent: str, env_id: Any, given: set[str], own: set[str]) -> tuple[dict[str, Any], str | None]:
    """What an agent's preset for an environment sets beside the ``given`` flags, and where the settings come from.

    That is None where all of the agent's ``own`` flags are given.
    """
    if not isinstance(env_id, str):  # the parser will say what is wrong
        return {}, None
    from rlgd.agents import presets, registered_name
    from rlgd.envs import full_id

    name, env_id = registered_name(agent), full_id(env_id)
    preset = presets.of_agent(name).get(env_id)
    if preset is None:
        return {}, None if own <= given else f"no preset of {name} for {env_id}: the agent's defaults"
    taken = {flag: value for flag, value in preset.flags.items() if flag not in given}
    others = [f"--{flag.replace('_', '-')}" for flag in preset.flags if flag in given]
    steps = f" ({preset.total_timesteps:,} steps)" if "total_timesteps" in taken else ""
    but = f", but for {', '.join(others)}" if others else ""
    return taken, f"preset: {name} for {env_id}{steps}{but}; --no-preset ignores it" if taken else None


def start_run(agent: Any, options: Any, origin: str | None) -> int:
    """Check everything, say what will run where and where its settings come from, train."""
    from rlgd.cli import jax_setup
    from rlgd.hyperparameters import flat_fields
    from rlgd.run import layout
    from rlgd.run.config import RunConfig, agent_name
    from rlgd.run.settings import RunSettings
    from rlgd.training import footprint

    names = [name for name in flat_fields(RunSettings()) if name != "env_args"]
    env_args = dict(key_value(text) for text in options.env_arg)
    own = RunSettings.of({name: getattr(options, name) for name in names} | {"env_args": env_args})
    env = own.env.make(options.env)
    settings = RunConfig(agent, env, own)
    settings.validate()
    jax_setup.set_up(settings, options.device, options.deterministic_ops)
    footprint.check(agent, env)
    directory = options.run_dir
    if directory is None:
        directory = layout.automatic(Path("runs"), env.env_id, agent_name(agent), options.seed)
    from rlgd.run.api import execute

    announce(settings, options, origin)
    with signals.caught() as poll_signal:
        sinks = console_sinks(options, options.total_timesteps)
        result = execute(settings, Path(directory), options.overwrite, sinks, poll_signal, metrics=False)
    return report(result, settings.evaluation_env.env_id, options)
