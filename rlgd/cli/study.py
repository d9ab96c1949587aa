"""``rlgd study``."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from rlgd.cli.config_files import from_file
from rlgd.cli.flags import Flags, counts, doc, output_flags, parse, take_run
from rlgd.cli.output import tensorboard_command
from rlgd.errors import UsageError
from rlgd.system import signals

STUDY_HELP = """\
usage: rlgd study NAME|FILE [flags]     train every value of a study with many seeds, and compare them
       rlgd study resume DIR [flags]    go on with a study that was cut short
       rlgd study list                  the studies that ship with rlgd

A FILE.toml of your own has the form of those in rlgd/studies/questions/. `rlgd study NAME --help` lists the flags.
"""


def study(argv: list[str]) -> int:
    """``rlgd study``."""
    from rlgd.cli import catalog

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
    from rlgd.studies import question as question_module

    question = question_module.read_question(argv[0], options.full)
    if options.env is None:
        from_file(question.env)
    given = {name: getattr(options, name) for name in ("agent", "env", "seeds", "total_timesteps", "target_return")}
    question = dataclasses.replace(question, **{name: value for name, value in given.items() if value is not None})
    from rlgd.studies.plan import make_plan

    directory = Path(options.run_dir) if options.run_dir else None
    return answer(make_plan(question), directory, options.exact, options, resumed=False)


def resume_study(argv: list[str], speed: Flags) -> int:
    """``rlgd study resume``."""
    about = "Train the members of a study that are not finished."
    flags = {"env": doc(str | None, "the study's environment, if its id imports a module", None), **speed}
    directory, argv = take_run("study resume", argv, flags, about)
    options = parse(f"rlgd study resume {directory}", flags, argv, about)
    from rlgd.studies import directory as studydir
    from rlgd.studies.plan import make_plan

    question, content = studydir.read(directory)
    if not question.env:
        raise UsageError(f"{directory} was not made from ids; resume it with rlgd.studies.resume_study.")
    if options.env is None:
        from_file(question.env)
    elif options.env != question.env:
        raise UsageError(f"{directory} is a study of {question.env!r}, not of {options.env!r}.")
    return answer(make_plan(question), directory, content["exact"], options, resumed=True)


def answer(plan: Any, directory: Path | None, exact: bool, options: Any, resumed: bool) -> int:
    """Run a study, show how far it is, and what was found; without a directory in one of its own."""
    import time

    from rlgd.cli import jax_setup

    jax_setup.set_up(plan.members[0], options.device, options.deterministic_ops, alone=not plan.on_device)
    from rlgd.studies import api
    from rlgd.studies import directory as studydir
    from rlgd.studies import execution as execution_module

    execution = execution_module.Execution(exact, options.slice_size, options.workers)
    execution.validate()
    silent, dry_run = options.quiet or options.json, not resumed and options.dry_run
    if dry_run or not (resumed or silent):
        print(execution_module.forecast(plan, execution), file=sys.stdout if dry_run else sys.stderr)
    if dry_run:
        return 0
    if directory is None:
        directory = studydir.automatic(Path("runs"), plan.question.name)
    start = last = time.monotonic()

    def on_progress(done: int, number: int, compile_seconds: float) -> None:
        nonlocal last
        now = time.monotonic()
        if not silent and (done == number or now - last > 1):
            last = now
            text = f"  {done:,} of {number:,} members, {now - start:.0f} s, of which compiling {compile_seconds:.0f} s"
            print(text, file=sys.stderr, flush=True)

    try:
        result = api.execute(plan, directory, execution, on_progress, resumed)
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
