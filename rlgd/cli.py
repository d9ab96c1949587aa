"""The command line. Flags come from the dataclasses; the command and the agent are chosen before jax is imported."""

import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rlgd import signals
from rlgd.errors import Interrupted, RlgdError, UsageError, unknown

if TYPE_CHECKING:
    from rlgd.evaluation import EvalResult
    from rlgd.run import TrainResult

HELP = """\
rlgd: policy gradients as compiled gradient ascent.

usage: rlgd COMMAND [arguments]

  train AGENT --env ID [flags]   train an agent (reinforce, a2c, ppo, npg, trpo) and evaluate it
  resume RUN [flags]             go on with a run, to its end or further
  eval RUN [flags]               play episodes with a trained policy
  play RUN [flags]               watch it, or record a video
  study NAME|FILE [flags]        train many values and seeds, and compare them; `rlgd study list`
  tune AGENT --env ID --search NAME=VALUES [flags]
                                 search for hyper-parameters that learn well
  reproduce SUITE [flags]        train what has published scores (classic, box2d, mujoco), and compare
  verify-resume RUN|CONFIG       prove that a run that is killed and resumed ends with the same bits
  check-env ID [flags]           find out whether an environment is sound
  list agents|envs|optimizers|presets|schedules|studies
                                 what there is to choose from

`rlgd COMMAND --help` and `rlgd train AGENT --help` explain the flags. To begin with:

  rlgd train ppo --env CartPole-v1
  tensorboard --logdir runs
"""
TRAIN_HELP = """\
usage: rlgd train AGENT --env ID [flags]

Train an agent, write its curves and its checkpoint to runs/, and evaluate it.

agents:
{agents}

`rlgd train AGENT --help` lists the agent's flags; `rlgd list envs` the environments.
"""


def doc(kind: Any, text: str, default: Any) -> tuple[Any, Any]:
    """A flag: its type with its help text, and its default."""
    import tyro

    return Annotated[kind, tyro.conf.arg(help=text)], default


def counts() -> Any:
    """The type of a flag that takes a number as ``count`` reads it."""
    import tyro

    from rlgd.config import count

    spec = tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda args: count(args[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )
    return Annotated[int, spec]


Flags = dict[str, tuple[Any, Any]]


def output_flags() -> Flags:
    """Flags of every command that runs something."""
    return {
        "device": doc(str | None, "cpu or gpu; the default is a GPU if there is one", None),
        "deterministic_ops": doc(bool, "the same bits from every run on a GPU, at some cost in speed", False),
        "quiet": doc(bool, "print nothing but the result", False),
        "json": doc(bool, "print one JSON document on standard output, and nothing else there", False),
        "debug": doc(bool, "show the traceback of a failure", False),
    }


def stopping_flags() -> Flags:
    """The criteria to stop a run."""
    from rlgd.stopping import NEVER

    return setting_flags(NEVER)


def saving_flags() -> Flags:
    """How often a run is evaluated and saved."""
    number = counts()
    return {
        "eval_every": doc(
            number | None, "evaluate after so many steps; by default only at the end, or 20 times for a criterion", None
        ),
        "eval_episodes": doc(int, "episodes of each evaluation, in Gymnasium's own environment", 100),
        "checkpoint_every": doc(str, "seconds between checkpoints, such as 60s, or steps, such as 100000", "60s"),
        "keep": doc(int, "how many of the newest checkpoints are kept; the best one is kept apart", 3),
    }


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


def parse(prog: str, flags: Flags, argv: list[str], description: str) -> Any:
    """Read flags into an object with an attribute for each; unknown ones end the program with exit code 2."""
    import tyro

    fields = [(name, kind, dataclasses.field(default=value)) for name, (kind, value) in flags.items()]
    options = dataclasses.make_dataclass("Options", fields, frozen=True)
    options.__doc__ = description
    return tyro.cli(options, args=argv, prog=prog)


def setting_flags(settings: Any) -> Flags:
    """The fields of a hyper-parameter class as flags, by their flat names."""
    from rlgd.config import flat_fields

    flags = {}
    for name, (_, field, annotation, value) in flat_fields(settings).items():
        text = field.metadata["doc"]
        if choices := field.metadata.get("choices"):
            text += f" ({', '.join(choices)})"
        elif within := field.metadata.get("within"):
            text += f", in {within}"
        flags[name] = doc(annotation, text, value)
    return flags


def read_config(path: str) -> tuple[dict[str, Any], str | None]:
    """Flags from a file, a run's ``config.json`` or TOML with flat names; and the agent, if it says one.

    Raises:
        UsageError: if it cannot be read.
    """
    import tomllib

    from rlgd.rundir import MAX_JSON

    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(MAX_JSON)
        content = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--config {path} is not {'JSON' if path.endswith('.json') else 'TOML'}: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"--config {path} holds no table of flags.")
    agent = content.pop("agent", None)
    if "hyperparameters" in content:
        try:
            content = flags_of_run(content)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"--config {path} is no config.json of this version of rlgd: {error!r}.") from error
    return {name.replace("-", "_"): tuple(v) if isinstance(v, list) else v for name, v in content.items()}, agent


def from_file(env_id: str) -> None:
    """Refuse an environment whose id, out of a file, would import a module.

    Raises:
        UsageError: naming it.
    """
    from rlgd.envs import SUITES

    module, colon, _ = str(env_id).partition(":")
    if colon and module not in SUITES:
        raise UsageError(f"the environment {env_id!r} imports the module {module!r}; name it yourself: --env {env_id}.")


def flags_of_run(content: dict[str, Any]) -> dict[str, Any]:
    """The flags that a run's ``config.json`` stands for."""
    env = content["env"]
    names = ("total_timesteps", "seed", "eval_every", "eval_episodes", "checkpoint_every", "keep")
    kept = {name: content[name] for name in names}
    kept["checkpoint_every"] = str(kept["checkpoint_every"])
    run = {"env": env["id"], "backend": env["backend"], "max_episode_steps": env["max_episode_steps"]}
    run |= {"act_device": content["act_device"]}
    if env["backend"] == "host":
        run |= {"vectorization": env["vectorization"], "env_timeout": env["timeout"]}
        run |= {"env_arg": tuple(f"{key}={json.dumps(value)}" for key, value in json.loads(env["kwargs"]).items())}
    return {**content["hyperparameters"], **kept, **content["stopping"], **run}


def with_defaults(flags: Flags, values: dict[str, Any]) -> Flags:
    """The flags with other defaults."""
    for name in values:
        if name not in flags:
            raise unknown("flag", name, flags)
    return flags | {name: (flags[name][0], value) for name, value in values.items()}


def is_given(argv: list[str], name: str) -> bool:
    """Whether a flag is there, whatever its value."""
    words = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in argv if word.startswith("--")}
    return name in words or f"no_{name}" in words


def option_value(argv: list[str], name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE`` before the rest is parsed; as there, the last one counts."""
    value = None
    for index, word in enumerate(argv):
        if word == f"--{name}" and index + 1 < len(argv):
            value = argv[index + 1]
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


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
    from rlgd.agents import registered_name, tuned
    from rlgd.envs import full_id

    name, env_id = registered_name(agent), full_id(env_id)
    preset = tuned.of_agent(name).get(env_id)
    if preset is None:
        return {}, None if own <= given else f"no preset of {name} for {env_id}: the agent's defaults"
    taken = {flag: value for flag, value in preset.flags.items() if flag not in given}
    others = [f"--{flag.replace('_', '-')}" for flag in preset.flags if flag in given]
    steps = f" ({preset.total_timesteps:,} steps)" if "total_timesteps" in taken else ""
    but = f", but for {', '.join(others)}" if others else ""
    return taken, f"preset: {name} for {env_id}{steps}{but}; --no-preset ignores it" if taken else None


def start_run(agent: Any, options: Any, origin: str | None) -> int:
    """Check everything, say what will run where and where its settings come from, train."""
    from rlgd import envs, memory, rundir, runtime
    from rlgd.rundir import RunConfig
    from rlgd.stopping import Stopping

    env_args = dict(key_value(text) for text in options.env_arg)
    env = envs.make(
        options.env,
        backend=options.backend,
        max_episode_steps=options.max_episode_steps,
        vectorization=options.vectorization,
        env_timeout=options.env_timeout,
        **env_args,
    )
    stopping = Stopping(**{name: getattr(options, name) for name in stopping_flags()})
    settings = RunConfig(
        agent,
        env,
        options.total_timesteps,
        options.seed,
        options.eval_every,
        options.eval_episodes,
        stopping,
        options.act_device,
        options.checkpoint_every,
        options.keep,
    )
    settings.validate()
    runtime.set_up(settings, options.device, options.deterministic_ops)
    memory.check(agent, env)
    directory = options.run_dir
    if directory is None:
        directory = rundir.automatic(Path("runs"), env.env_id, settings.agent_name, options.seed)
    from rlgd.run import execute

    announce(settings, options, origin)
    with signals.caught() as asked:
        sinks = console_sinks(options, options.total_timesteps)
        result = execute(settings, Path(directory), options.overwrite, sinks, asked, metrics=False)
    return report(result, settings.evaluation_env.env_id, options)


def resume(argv: list[str]) -> int:
    """``rlgd resume``."""
    from rlgd import rundir, runtime

    flags: Flags = {
        "env": doc(str | None, "the environment, where the run's own id is not enough", None),
        "total_timesteps": doc(counts() | None, "a new end; schedules stretch to it", None),
        **saving_flags(),
        **stopping_flags(),
        **output_flags(),
    }
    about = "Go on with a run from its newest checkpoint; traced hyper-parameters may change."
    run, argv = take_run("resume", argv, flags, about)
    agent, _ = rundir.read_agent(run)
    stored = rundir.read_own(run)
    own = setting_flags(agent) | setting_flags(stored["stopping"])
    own |= with_defaults(saving_flags(), {name: stored[name] for name in rundir.RESUMABLE})
    options = parse(f"rlgd resume {run}", {**flags, **own}, argv, about)
    changes = {name: getattr(options, name) for name in own if is_given(argv, name)}
    settings = rundir.changed(rundir.read(run, options.env), options.total_timesteps, changes)
    settings.validate()
    runtime.set_up(settings, options.device, options.deterministic_ops)
    from rlgd.run import resume as run_resume

    announce(settings, options)
    with signals.caught() as asked:
        result = run_resume(
            run,
            env=options.env,
            total_timesteps=options.total_timesteps,
            sinks=console_sinks(options, settings.total_timesteps),
            asked=asked,
            metrics=False,
            **changes,
        )
    return report(result, settings.evaluation_env.env_id, options)


def episode_flags(episodes: int) -> Flags:
    """Flags of the commands that play whole episodes."""
    return {
        "episodes": doc(int, "how many", episodes),
        "checkpoint": doc(str | None, "best, latest or a step; by default the run's result", None),
        "sampled": doc(bool, "sample actions instead of taking the most probable", False),
        "seed": doc(int, "of environments and sampled actions", 0),
        "env": doc(str | None, "another environment than the run's", None),
        "max_steps": doc(int | None, "of an episode; by default the time limit, or 10,000 where there is none", None),
        **output_flags(),
    }


def evaluate(argv: list[str]) -> int:
    """``rlgd eval``."""
    about = "Play whole episodes with a trained policy."
    run, argv = take_run("eval", argv, episode_flags(100), about)
    options = parse(f"rlgd eval {run}", episode_flags(100), argv, about)
    from rlgd.evaluation import evaluate as run_evaluate

    result, summary = play_whole(run_evaluate, run, options)
    show_played(result, summary, options)
    return 0


def play(argv: list[str]) -> int:
    """``rlgd play``."""
    video = doc(str | None, "record them in this .mp4 or .gif, and in the run's TensorBoard", None)
    flags = {"video": video, **episode_flags(1)}
    about = "Watch a trained policy: whole episodes in a window, or in a video."
    run, argv = take_run("play", argv, flags, about)
    options = parse(f"rlgd play {run}", flags, argv, about)
    from rlgd import rundir, tensorboard
    from rlgd.play import play as run_play
    from rlgd.play import preview

    result, summary = play_whole(run_play, run, options, video=options.video)
    if options.video is not None:
        _, found = rundir.find_checkpoint(run, options.checkpoint)
        tensorboard.add_video(run, preview(Path(options.video)), found.steps)
        summary |= {"video": options.video}
    show_played(result, summary, options)
    if options.video is not None and not (options.quiet or options.json):
        print(f"video:       {options.video}")
        print(f"curves:      {tensorboard_command()} --logdir {run}")
    return 0


def show_played(result: "EvalResult", summary: dict[str, Any], options: Any) -> None:
    """Whole episodes, for a person or as JSON."""
    if options.json:
        print(json.dumps(summary | {"returns": result.returns.tolist(), "lengths": result.lengths.tolist()}))
    else:
        print(sentence(summary))


def play_whole(
    how: Callable[..., "EvalResult"], run: Path, options: Any, **more: Any
) -> tuple["EvalResult", dict[str, Any]]:
    """The episodes that ``episode_flags`` ask for, and their summary."""
    from rlgd import rundir, runtime
    from rlgd.run import load

    settings = rundir.read(run, options.env)
    runtime.set_up(settings, options.device, options.deterministic_ops)
    result = how(
        load(run, options.checkpoint),
        settings.evaluation_env,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=not options.sampled,
        max_steps=options.max_steps,
        **more,
    )
    return result, describe(result, settings.evaluation_env.env_id)


def take_run(command: str, argv: list[str], flags: Flags, about: str) -> tuple[Path, list[str]]:
    """The run directory in front of the flags, and the flags."""
    run, argv = take_first(command, "RUN", argv, flags, about)
    return Path(run), argv


def take_first(command: str, what: str, argv: list[str], flags: Flags, about: str) -> tuple[str, list[str]]:
    """The word in front of the flags, and the flags; without it, help."""
    if not argv or argv[0] in ("-h", "--help"):
        try:
            parse(f"rlgd {command} {what}", flags, ["--help"], about)
        except SystemExit:
            sys.exit(0 if argv else 2)
    if argv[0].startswith("-"):
        raise UsageError(f"{what} comes first: rlgd {command} {what} [flags].")
    return argv[0], argv[1:]


def verify_resume(argv: list[str]) -> int:
    """``rlgd verify-resume``."""
    flags: Flags = {
        "env": doc(str | None, "the environment, where what the file says is not enough", None),
        "total_timesteps": doc(counts() | None, "environment steps; by default what the file says", None),
        **output_flags(),
    }
    about = "Train, be killed at a random instant, resume, and compare all bits. A file is a config.json or TOML."
    source, argv = take_first("verify-resume", "RUN|CONFIG", argv, flags, about)
    path = Path(source, "config.json") if Path(source).is_dir() else Path(source)
    options = parse(f"rlgd verify-resume {source}", flags, argv, about)
    values, agent = read_config(str(path))
    if agent is None:
        raise UsageError(f'{path} names no agent; add a line such as agent = "ppo".')
    from rlgd.verify import verify_resume as run_verify

    total = options.total_timesteps or values.get("total_timesteps", train_flags()["total_timesteps"][1])
    if not isinstance(agent, str) or not isinstance(total, int):
        raise UsageError(f"{path} says agent {agent!r} and total_timesteps {total!r}; expected a name and a number.")
    given = [] if options.device is None else ["--device", options.device]
    given += ["--deterministic-ops"] if options.deterministic_ops else []

    def tell(what: str) -> None:
        if not (options.quiet or options.json):
            print(f"  {what}", file=sys.stderr, flush=True)

    verdict = run_verify([agent, "--config", str(path), *given], total, options.env, tell)
    print(json.dumps(dataclasses.asdict(verdict) | {"exact": verdict.exact}) if options.json else verdict.sentences())
    return 0 if verdict.exact else 1


def list_things(argv: list[str]) -> int:
    """``rlgd list``."""
    from rlgd import catalog

    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: rlgd list {'|'.join(catalog.TABLES)}")
        return 0 if argv else 2
    print(catalog.table(argv[0]))
    return 0


def check_env(argv: list[str]) -> int:
    """``rlgd check-env``."""
    flags: Flags = {
        "env_arg": doc(tuple[str, ...], "arguments for the environment, key=value", ()),
        "seed": doc(int, "of resets and actions", 0),
        "steps": doc(int | None, "of random actions; by default 1,000, or fewer in a slow environment", None),
        "timeout": doc(float, "seconds to make the environment in a worker process, and to play there", 60.0),
        "worker": doc(bool, "try the environment in a worker process first", True),
        "json": doc(bool, "print one JSON document on standard output, and nothing else there", False),
        "debug": doc(bool, "show the traceback of a failure", False),
    }
    about = "Probe an environment by what it does. The exit code is 1 if it has a fault."
    env_id, argv = take_first("check-env", "ID", argv, flags, about)
    options = parse(f"rlgd check-env {env_id}", flags, argv, about)
    from rlgd.envs import SUITES, make
    from rlgd.envs.check import check, render

    arguments = dict(key_value(text) for text in options.env_arg)
    own = {name: getattr(options, name) for name in ("seed", "steps", "timeout", "worker")}
    if taken := own.keys() & arguments:
        raise UsageError(f"--env-arg {min(taken)}=... cannot be given here: check-env has a flag of that name.")
    source = make(env_id, **arguments) if env_id.partition(":")[0] in SUITES else env_id
    report = check(source, **own, **(arguments if isinstance(source, str) else {}))
    print(json.dumps(report.as_dict()) if options.json else render(report))
    return 0 if report.sound else 1


STUDY_HELP = """\
usage: rlgd study NAME|FILE [flags]     train every value of a study with many seeds, and compare them
       rlgd study resume DIR [flags]    go on with a study that was cut short
       rlgd study list                  the studies that ship with rlgd

A FILE.toml of your own has the form of those in rlgd/studies/. `rlgd study NAME --help` lists the flags.
"""


def study(argv: list[str]) -> int:
    """``rlgd study``."""
    from rlgd import catalog

    if not argv or argv[0] in ("-h", "--help"):
        print(STUDY_HELP, end="")
        return 0 if argv else 2
    if argv[0] == "list":
        print(catalog.table("studies"))
        return 0
    speed: Flags = {
        "slice_size": doc(int | None, "members side by side; by default as many as are fastest and fit", None),
        "workers": doc(int | None, "slices that run at once; by default one for each core, or one on a GPU", None),
        **output_flags(),
    }
    if argv[0] == "resume":
        return resume_study(argv[1:], speed)
    flags: Flags = {
        "agent": doc(str | None, "another agent than the study names", None),
        "env": doc(str | None, "another environment than the study names", None),
        "seeds": doc(int | None, "seeds of each combination of values", None),
        "total_timesteps": doc(counts() | None, "environment steps of each member", None),
        "target_return": doc(
            float | None, "count steps and seconds to this return; by default the environment's threshold", None
        ),
        "full": doc(bool, "the study's full setting instead of its fast one", False),
        "dry_run": doc(bool, "print the plan, and stop", False),
        "exact": doc(bool, "give each member the bits of its run alone, at some cost in speed", False),
        "run_dir": doc(str | None, "where to write; by default runs/studies/<name>/<time>", None),
        **speed,
    }
    options = parse(f"rlgd study {argv[0]}", flags, argv[1:], "Train every value of a study with many seeds.")
    from rlgd import grid

    question = grid.read(argv[0], options.full)
    if options.env is None:
        from_file(question.env)
    given = {name: getattr(options, name) for name in ("agent", "env", "seeds", "total_timesteps", "target_return")}
    question = dataclasses.replace(question, **{name: value for name, value in given.items() if value is not None})
    from rlgd import plan as plans

    worked_out = plans.plan(question)
    directory = Path(options.run_dir) if options.run_dir else None
    return answer(worked_out, directory, options.exact, options, anew=True)


def resume_study(argv: list[str], speed: Flags) -> int:
    """``rlgd study resume``."""
    about = "Train the members of a study that are not finished."
    flags = {"env": doc(str | None, "the study's environment, if its id imports a module", None), **speed}
    directory, argv = take_run("study resume", argv, flags, about)
    options = parse(f"rlgd study resume {directory}", flags, argv, about)
    from rlgd import plan as plans
    from rlgd import studydir

    question, content = studydir.read(directory)
    if not question.env:
        raise UsageError(f"{directory} was not made from ids; go on with it by rlgd.sweep.resume_study.")
    if options.env is None:
        from_file(question.env)
    elif options.env != question.env:
        raise UsageError(f"{directory} is a study of {question.env!r}, not of {options.env!r}.")
    return answer(plans.plan(question), directory, content["exact"], options, anew=False)


def answer(plan: Any, directory: Path | None, exact: bool, options: Any, anew: bool) -> int:
    """Run a study, show how far it is, and what was found; without a directory in one of its own."""
    import time

    from rlgd import runtime

    runtime.set_up(plan.members[0], options.device, options.deterministic_ops, alone=not plan.on_device)
    from rlgd import studydir, sweep

    execution = sweep.Execution(exact, options.slice_size, options.workers)
    execution.validate()
    silent, dry_run = options.quiet or options.json, anew and options.dry_run
    if dry_run or (anew and not silent):
        print(sweep.forecast(plan, execution), file=sys.stdout if dry_run else sys.stderr)
    if dry_run:
        return 0
    if directory is None:
        directory = studydir.automatic(Path("runs"), plan.question.name)
    start = last = time.monotonic()

    def watch(done: int, number: int, compile_seconds: float) -> None:
        nonlocal last
        now = time.monotonic()
        if not silent and (done == number or now - last > 1):
            last = now
            text = f"  {done:,} of {number:,} members, {now - start:.0f} s, of which compiling {compile_seconds:.0f} s"
            print(text, file=sys.stderr, flush=True)

    try:
        result = sweep.execute(plan, directory, execution, watch, anew)
    except KeyboardInterrupt as interrupt:
        print(f"rlgd: interrupted; go on with `rlgd study resume {directory}`", file=sys.stderr, flush=True)
        # Threads are still busy; what is finished is on disk.
        os._exit(signals.exit_code(interrupt))
    if options.json:
        print(json.dumps({"study_dir": str(directory), "results": result.records()}))
        return 0
    print(result.table())
    print(f"\nstudy:       {directory}")
    print(f"curves:      {tensorboard_command()} --logdir {directory}")
    return 0


def reproduce(argv: list[str]) -> int:
    """``rlgd reproduce``."""
    flags: Flags = {
        "seeds": doc(int | None, "of each row; by default 20 on the device, 5 on the host", None),
        "only": doc(tuple[str, ...], "train these rows alone: ENV or ENV:AGENT", ()),
        "workers": doc(int, "processes that train, each one seed at a time", 1),
        "dry_run": doc(bool, "say what would be trained, and stop", False),
        "run_dir": doc(
            str | None, "where the runs are; what is there goes on. By default runs/reproduce/<suite>", None
        ),
        "out": doc(
            str | None,
            "the table's file; by default docs/reproduce-<suite>.md in a checkout, elsewhere or with --run-dir "
            "reproduce-<suite>.md beside the runs",
            None,
        ),
        **output_flags(),
    }
    about = "Train a table of environments and agents from the presets, and set the scores beside published ones."
    name, argv = take_first("reproduce", "SUITE", argv, flags, f"{about} Suites: classic, box2d, mujoco.")
    options = parse(f"rlgd reproduce {name}", flags, argv, about)
    from rlgd import reproduce as reproduction
    from rlgd import runtime, scoreboard

    suite = reproduction.read(name)
    reproduction.check_workers(options.workers)
    root = Path(options.run_dir or Path("runs", "reproduce", name))
    plans = reproduction.plans(suite, root, options.seeds)
    wanted = reproduction.chosen(suite, plans, options.only)
    set_up = functools.partial(runtime.set_up, device=options.device, deterministic_ops=options.deterministic_ops)
    if options.workers > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is for all of them
    for settings in [plan.settings for plan in wanted if plan.settings is not None][:1]:
        set_up(settings)
    jobs = [job for plan in wanted for job in reproduction.jobs(plan)]
    silent = options.quiet or options.json
    if options.dry_run or not silent:
        print(scoreboard.forecast(wanted, jobs), file=sys.stdout if options.dry_run else sys.stderr, flush=True)
    if options.dry_run:
        return 0
    if all(plan.why_not for plan in wanted):
        raise UsageError(f"no row of {name} can be trained yet.")
    out = Path(options.out) if options.out else scoreboard.automatic(name, root, by_itself=options.run_dir is None)
    scoreboard.make_room(out)
    ended = 0

    def tell(job: Any, trouble: str | None) -> None:
        nonlocal ended
        ended += 1
        if trouble is not None or not silent:
            text = f"  {ended} of {len(jobs)}: {job.row} seed {job.seed}: {trouble or scoreboard.outcome(job)}"
            print(text, file=sys.stderr, flush=True)

    with signals.caught() as asked:
        reproduction.train(jobs, options.workers, set_up, asked, tell)
    findings = [scoreboard.found(plan) for plan in plans]
    scoreboard.write(out, suite, findings)
    shown = [finding for finding in findings if finding.plan in wanted]
    if options.json:
        print(json.dumps({"suite": name, "table": str(out), "rows": scoreboard.records(shown)}))
    else:
        print(scoreboard.table(shown))
        print(f"\ntable:       {out}")
        print(f"curves:      {tensorboard_command()} --logdir {root}")
    return 0 if all(finding.reached for finding in shown) else 1


EXAMPLE_SEARCH = "learning_rate=log:1e-4,1e-2"
TUNE_HELP = """\
usage: rlgd tune AGENT --env ID --search NAME=VALUES NAME=VALUES ... [flags]

Search for hyper-parameters with a high return, and train the best ones with fresh seeds. VALUES is one of

  adam,lion,rmsprop                 a choice; [[64,64],[128]] where values are lists
  log:1e-4,1e-2                     a range, by factors
  linear:0.9,1                      a range; of whole numbers if both ends are

`rlgd tune AGENT --help` lists the flags: the agent's, for what all trials have, and the search's.
"""


def tune_flags() -> Flags:
    """Flags of ``rlgd tune`` beside the agent's."""
    return {
        "env": doc(str | None, "Gymnasium id, such as CartPole-v1 (required)", None),
        "search": doc(
            tuple[str, ...], "what is searched over, name=values; `rlgd tune --help` says how (required)", ()
        ),
        "trials": doc(int, "how many", 30),
        "seeds": doc(int, "of each trial", 3),
        "fresh_seeds": doc(int, "that the best values are trained with in the end, none of them a trial's; 0: not", 10),
        "total_timesteps": doc(counts(), "environment steps of each member", 100_000),
        "eval_episodes": doc(int, "episodes of each evaluation", 20),
        "seed": doc(int, "of the search", 0),
        "run_dir": doc(
            str | None,
            "where to write; a search that is there goes on, and several processes may share it; by default "
            "runs/tune/<env>/<agent>/<time>",
            None,
        ),
    }


def tune(argv: list[str]) -> int:
    """``rlgd tune``."""
    if not argv or argv[0] in ("-h", "--help"):
        print(TUNE_HELP, end="")
        return 0 if argv else 2
    from rlgd.agents import make_agent

    name, argv = argv[0], argv[1:]
    own = setting_flags(make_agent(name))
    flags = {**tune_flags(), **own, **output_flags()}
    options = parse(f"rlgd tune {name}", flags, argv, "Search for hyper-parameters with a high return.")
    if options.env is None or not options.search:
        missing = "--env" if options.env is None else "--search"
        raise UsageError(
            f"{missing} is missing; for example rlgd tune ppo --env CartPole-v1 --search {EXAMPLE_SEARCH}."
        )
    search = dict(searched(text) for text in options.search)
    from rlgd import envs, runtime
    from rlgd.rundir import RunConfig

    agent = make_agent(name, **{key: getattr(options, key) for key in own})
    env = envs.make(options.env)
    settings = RunConfig(agent, env, options.total_timesteps, eval_episodes=options.eval_episodes)
    settings.validate()
    runtime.set_up(settings, options.device, options.deterministic_ops, alone=not isinstance(env, envs.DeviceEnv))
    from rlgd import grid, tuning

    directory = Path(options.run_dir) if options.run_dir else tuning.automatic(Path("runs"), env.env_id, name)
    silent = options.quiet or options.json

    def watch(number: int, state: str, score: float, values: dict[str, Any]) -> None:
        if not silent:
            text = " ".join(f"{key}={grid.written(value)}" for key, value in values.items())
            print(f"  trial {number}: {score:.1f} ({state}) {text}", file=sys.stderr, flush=True)

    numbers = ("trials", "seeds", "fresh_seeds", "total_timesteps", "eval_episodes", "seed")
    given = {key: getattr(options, key) for key in numbers}
    try:
        result = tuning.tune(agent, env, search, **given, tune_dir=directory, watch=watch)
    except KeyboardInterrupt as interrupt:
        print(f"rlgd: interrupted; the same command with --run-dir {directory} goes on", file=sys.stderr, flush=True)
        return signals.exit_code(interrupt)
    if options.json:
        fresh = None if result.fresh is None else result.fresh._asdict()
        trials = [trial | {"score": None if math.isnan(trial["score"]) else trial["score"]} for trial in result.trials]
        scores = {"search_score": result.search_score, "fresh": fresh, "trials": trials}
        print(json.dumps({"tune_dir": str(directory), "best": result.best, **scores}))
        return 0
    print(result.table())
    print(f"\nsearch:      {directory}")
    print(f"train:       rlgd train {name} --config {directory / tuning.BEST}")
    return 0


def searched(text: str) -> tuple[str, Any]:
    """``name=values`` of ``--search``."""
    name, values = key_value(text, "--search")
    if not isinstance(values, str):
        return name, values if isinstance(values, list) else [values]
    spacing, colon, ends = values.partition(":")
    parts = [json_or_text(part) for part in (ends if colon else values).split(",")]
    return name, {spacing: parts} if colon else parts


def json_or_text(text: str) -> Any:
    """A value as JSON if it is, else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def key_value(text: str, flag: str = "--env-arg") -> tuple[str, Any]:
    """``key=value``, the value as JSON if it is, else as text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{flag} {text!r} is not of the form key=value.")
    return key, json_or_text(value)


def announce(settings: Any, options: Any, origin: str | None = None) -> None:
    """Say what runs where, and why, and where its settings come from."""
    if options.quiet or options.json:
        return
    from rlgd.envs import DeviceEnv, device_ids
    from rlgd.rundir import device_name

    if isinstance(settings.env, DeviceEnv):
        twin = " (its twin of Gymnasium's)" if settings.env.env_id in device_ids() else ""
        where = f"{settings.env.env_id} on the device{twin}"
    else:
        how = settings.env.how(settings.agent.num_envs)
        why = "; it has a twin on the device" if settings.env.env_id in device_ids() else ""
        where = f"{settings.env.env_id} on the host: {how}{why}"
    print(f"{type(settings.agent).__name__} on {device_name()}; {where}", file=sys.stderr)
    if origin is not None:
        print(origin, file=sys.stderr)


def console_sinks(options: Any, total_timesteps: int) -> list[Any]:
    """The progress display, unless it is not wanted."""
    if options.quiet or options.json:
        return []
    from rlgd.console import Console

    return [Console(total_timesteps)]


def describe(result: "EvalResult", env_id: str) -> dict[str, Any]:
    """An evaluation in a few numbers."""
    return {
        "env": env_id,
        "episodes": len(result.returns),
        "policy": "greedy" if result.deterministic else "sampled",
        "mean_return": result.mean,
        "std_return": result.std,
        "mean_length": float(result.lengths.mean()),
    }


def sentence(summary: dict[str, Any]) -> str:
    """An evaluation as a line of text."""
    return (
        f"evaluation: mean return {summary['mean_return']:.1f} +- {summary['std_return']:.1f} over "
        f"{summary['episodes']} episodes in {summary['env']} ({summary['policy']} policy)"
    )


def report(result: "TrainResult", env_id: str, options: Any) -> int:
    """The end of a run, for a person or as JSON."""
    from rlgd.rundir import read_summary

    assert result.run_dir is not None
    summary = read_summary(result.run_dir)
    if options.json:
        print(json.dumps({"run_dir": str(result.run_dir), **summary, "reason": result.reason}))
        return 0
    if result.reason == "already complete":
        print(f"already complete ({result.steps:,} steps){f': {result.why}' if result.why else ''}")
    else:
        seconds, compiling = result.training_seconds, result.compile_seconds
        speed = result.steps / max(seconds, 1e-9)
        print(f"{result.steps:,} steps in {seconds:.1f} s ({speed:,.0f} a second), compiling {compiling:.1f} s")
        if result.why:
            print(f"stopped by --{result.reason.replace('_', '-')}: {result.why}")
    if result.evaluation is not None:
        print(sentence(describe(result.evaluation, env_id)))
    print(f"run:         {result.run_dir}")
    logdir = "runs" if result.run_dir.parts[:1] == ("runs",) else result.run_dir
    print(f"curves:      {tensorboard_command()} --logdir {logdir}")
    return 0


def tensorboard_command() -> str:
    """How TensorBoard is called here: by its name if that is on the path, else beside this interpreter."""
    import shutil

    if shutil.which("tensorboard"):
        return "tensorboard"
    beside = Path(sys.executable).with_name("tensorboard")
    return os.path.relpath(beside) if beside.exists() else "tensorboard"


def say(message: str) -> None:
    """Print to the error output, if it can still be written."""
    with contextlib.suppress(OSError):
        print(f"rlgd: {message}", file=sys.stderr, flush=True)


class ToStderr(logging.Handler):
    """Prints what the library has to say; on the error output of the moment, which a progress bar takes over."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        say(record.getMessage())


@contextlib.contextmanager
def messages(quiet: bool) -> Iterator[None]:
    """Show what the library has to say: warnings, and unless it is to be quiet what is worth knowing."""
    log, handler = logging.getLogger("rlgd"), ToStderr()
    before = log.level, log.propagate
    log.addHandler(handler)
    log.level, log.propagate = logging.WARNING if quiet else logging.INFO, False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


OUT_OF_MEMORY = (
    "out of memory; fewer --num-envs or a shorter --rollout-length need less, more --num-minibatches too; in a study a "
    "smaller --slice-size"
)
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "resume": resume,
    "eval": evaluate,
    "play": play,
    "study": study,
    "tune": tune,
    "reproduce": reproduce,
    "verify-resume": verify_resume,
    "check-env": check_env,
    "list": list_things,
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code of DESIGN section 11."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if argv else 2
    if argv[0] == "--version":
        from rlgd import __version__

        print(__version__)
        return 0
    try:
        if argv[0] not in COMMANDS:
            raise unknown("command", argv[0], COMMANDS)
        with signals.raised(), messages("--quiet" in argv or "--json" in argv):
            return COMMANDS[argv[0]](argv[1:])
    except Interrupted as interrupted:
        say(str(interrupted))
        return interrupted.exit_code
    except RlgdError as error:
        if "--debug" in argv:
            raise
        say(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `| head` has; the interpreter's own last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # JAX raises it where the allocator fails, on a device or while compiling.
        if "RESOURCE_EXHAUSTED" not in str(error) or "--debug" in argv:
            raise
        say(f"error: {OUT_OF_MEMORY}: {str(error).splitlines()[0]}")
        return 1
    except KeyboardInterrupt as interrupt:
        say("interrupted")
        return signals.exit_code(interrupt)
