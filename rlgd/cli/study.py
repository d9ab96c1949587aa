"""``rlgd study``."""

import contextlib
import dataclasses
import functools
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd.cli import near_misses
from rlgd.cli.engine_options import EngineOptions
from rlgd.cli.options import flag, positional, sinks_flag
from rlgd.cli.output import command, end_interrupted, tensorboard, terminal_width
from rlgd.errors import UsageError

if TYPE_CHECKING:
    from rlgd.studies.execution import Execution
    from rlgd.studies.plan import Plan
    from rlgd.studies.publish import StudyResult

NOTES = """\
NAME is one of `rlgd study list`. A FILE.toml of your own has the form of those in rlgd/studies/questions/.
`rlgd study resume DIR` continues a study that was interrupted."""


@dataclasses.dataclass(frozen=True)
class ExecutionOptions(EngineOptions):
    """Options of the commands that train the members of a study."""

    sink: tuple[str, ...] = sinks_flag()
    slice_size: int | None = flag(None, "members side by side; the default follows from the number of environments")
    workers: int | None = flag(
        None, "slices that run at once; the default is one for each core or GPU, with an engine all that it takes"
    )
    devices: int = flag(1, "devices of this machine over which slices are divided")
    members: bool = flag(False, "write the curves of each member for TensorBoard, too, to members/")


@dataclasses.dataclass(frozen=True)
class Options(ExecutionOptions):
    """Train every value of a study with many seeds, and compare them."""

    study: str = positional("NAME|FILE", "a study of `rlgd study list`, or a TOML file", near_misses.study)
    agent: str | None = flag(None, "another agent than the study names")
    env: str | None = flag(None, "another environment than the study names", "ID")
    seeds: int | None = flag(None, "seeds of each combination of values")
    first_seed: int | None = flag(None, "the first of them; the default is 0")
    total_timesteps: int | None = flag(None, "environment steps of each member", count=True)
    target_return: float | None = flag(
        None, "count steps and seconds to this return; the default is the environment's threshold"
    )
    vary: tuple[str, ...] = flag((), "more axes, such as agent=ppo,a2c env=ID,ID", "NAME=VALUE,VALUE")
    until_separated: float | None = flag(
        None,
        "no more seeds for what is worse than the best; P is the probability of calling one worse by mistake",
        "P",
    )
    full: bool = flag(False, "the study's full setting instead of its fast one")
    dry_run: bool = flag(False, "print the plan, and stop")
    exact: bool = flag(False, "each member has the bits of its run alone; slower")
    run_dir: str | None = flag(None, "where to write (runs/studies/<name>/<time>)", "DIR")

    def notes(self) -> str:
        """Where studies come from."""
        return NOTES


def run(options: Options) -> int:
    """Plan the study, and run it."""
    _ = options.engine_choice  # a mistake in it is found first
    from rlgd.agents import named
    from rlgd.envs.registry import refuse_module_id
    from rlgd.studies import directory as study_directory
    from rlgd.studies import execution as execution_module
    from rlgd.studies import plan as plan_module
    from rlgd.studies import question as question_module
    from rlgd.studies import rounds

    question = question_module.read_question(options.study, options.full)
    more = axes_of(options.vary)
    for name in [options.agent, *more.get("agent", ())]:
        if name is not None:
            named(name)  # what a user names is imported, what a file names is not
    if options.env is not None:
        question = question.within(options.env)
    question = question.varied(more) if more else question
    for env_id in question.env_ids - {options.env, *more.get("env", ())}:  # those that the user did not name
        refuse_module_id(env_id)
    if options.total_timesteps is not None:
        question = question.lasting(options.total_timesteps)
    names = ("agent", "seeds", "first_seed", "target_return", "until_separated")
    given = {name: getattr(options, name) for name in names}
    question = dataclasses.replace(question, **{name: value for name, value in given.items() if value is not None})
    plan = plan_module.make_plan(question)
    execution = prepare(plan, options.exact, options)
    if options.dry_run or not (options.quiet or options.json):
        text = execution_module.forecast(plan, execution) + rounds.forecast(plan)
        print(text, file=sys.stdout if options.dry_run else sys.stderr)
    if options.dry_run:
        for sentence in plan.left_out:  # of a study that trains, it is said then
            print(sentence)
        return 0
    directory = Path(options.run_dir) if options.run_dir else study_directory.automatic(Path("runs"), question.name)
    return execute(plan, directory, execution, options, resumed=False)


def axes_of(arguments: Sequence[str]) -> dict[str, list[Any]]:
    """The values of ``--vary NAME=VALUE,VALUE``: numbers and true or false as TOML writes them, else text.

    Raises:
        UsageError: if an argument has another form.
    """
    axes: dict[str, list[Any]] = {}
    for argument in arguments:
        name, equals, values = argument.partition("=")
        if not name or not equals or not values or name in axes:
            raise UsageError(f"--vary {argument}: expected NAME=VALUE,VALUE, each name once, such as agent=ppo,a2c.")
        axes[name] = _values(values)
    return axes


def _values(text: str) -> list[Any]:
    """The values as a list of TOML has them; where it is none, each as TOML, or as text."""

    def read(part: str) -> Any:
        return tomllib.loads(f"value = {part}")["value"]

    with contextlib.suppress(tomllib.TOMLDecodeError):
        values: list[Any] = read(f"[{text}]")
        return values
    found: list[Any] = []
    for part in text.split(","):
        try:
            found.append(read(part))
        except tomllib.TOMLDecodeError:
            found.append(part)
    return found


def prepare(plan: "Plan", exact: bool, options: ExecutionOptions) -> "Execution":
    """Set JAX up for a study, and check how it is to be executed."""
    from rlgd.cli import jax_setup

    set_up = functools.partial(jax_setup.set_up, computing=options.computing)
    set_up(plan.largest, alone=not plan.device_groups)
    from rlgd.studies.execution import Execution

    execution = Execution(exact, options.slice_size, options.workers, set_up=set_up, devices=options.devices)
    execution.validate()
    return execution


def execute(plan: "Plan", directory: Path, execution: "Execution", options: ExecutionOptions, resumed: bool) -> int:
    """Train the members that are not finished, show how many are, and print what was found."""
    from rlgd.cli.progress import ShownProgress
    from rlgd.studies import api
    from rlgd.studies.directory import JOBS

    try:
        with (
            options.engine_choice.executor(execution.workers, directory / JOBS) as executor,
            ShownProgress(options) as progress,
        ):
            execution = dataclasses.replace(execution, executor=executor)
            result = api.execute(plan, directory, execution, progress, resumed, options.sink, False, options.members)
    except KeyboardInterrupt as interrupt:
        end_interrupted(interrupt, f"`{command('study', 'resume', directory)}` continues it")
    report(result, directory, options)
    return 0


def report(result: "StudyResult", directory: Path, options: ExecutionOptions) -> None:
    """Print what was found, for a person or as JSON."""
    from rlgd.studies.directory import MEMBER_CURVES, TENSORBOARD

    if options.json:
        print(json.dumps({"study_dir": str(directory), "results": result.records(), "times": result.times()}))
        return
    print(result.table(terminal_width()))
    print(f"\nstudy:       {directory}")
    print(f"answer:      {tensorboard(directory / TENSORBOARD)}")
    if options.members:
        print(f"members:     {tensorboard(directory / MEMBER_CURVES)}")
    else:
        how = command("study", "resume", directory, "--members")
        print(f"members:     `{how}` writes the curves of each of them")
