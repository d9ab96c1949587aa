"""``rlgd reproduce``."""

import dataclasses
import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlgd.cli.options import OutputOptions, flag, positional
from rlgd.cli.output import tensorboard_command
from rlgd.errors import UsageError
from rlgd.system import signals

if TYPE_CHECKING:
    from rlgd.reproduction.jobs import Job
    from rlgd.reproduction.plan import Plan
    from rlgd.reproduction.scoreboard import Finding
    from rlgd.run.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Options(OutputOptions):
    """Train a table of environments and agents from the presets, and set the scores beside published ones.

    Suites: classic, box2d, mujoco. The exit code is 1 if a published score is not reached.
    """

    suite: str = positional("SUITE", "classic, box2d or mujoco")
    seeds: int | None = flag(None, "seeds of each row; the default is 20 on the device, 5 on the host")
    only: tuple[str, ...] = flag((), "train only these rows", "ENV[:AGENT] ...")
    workers: int = flag(1, "processes that train, each one seed at a time")
    dry_run: bool = flag(False, "say what would be trained, and stop")
    run_dir: str | None = flag(
        None, "where the runs are; those in it are continued. The default is runs/reproduce/<suite>", "DIR"
    )
    out: str | None = flag(
        None,
        "the table's file; the default is docs/reproduce-<suite>.md in a checkout, elsewhere or with --run-dir "
        "reproduce-<suite>.md beside the runs",
        "FILE",
    )


def run(options: Options) -> int:
    """Train what is not finished, and write the table of what is."""
    from rlgd.reproduction import jobs as jobs_module
    from rlgd.reproduction import plan as plan_module
    from rlgd.reproduction import scoreboard, suite, workers

    rows = suite.read(options.suite)
    workers.check_workers(options.workers)
    root = Path(options.run_dir or Path("runs", "reproduce", options.suite))
    plans = plan_module.plans(rows, root, options.seeds)
    wanted = plan_module.chosen(rows, plans, options.only)
    set_up = _set_up(wanted, options)
    jobs = [job for plan in wanted for job in jobs_module.jobs(plan)]
    if options.dry_run or not (options.quiet or options.json):
        output = sys.stdout if options.dry_run else sys.stderr
        print(scoreboard.forecast(wanted, jobs), file=output, flush=True)
    if options.dry_run:
        return 0
    if all(plan.why_not for plan in wanted):
        raise UsageError(f"no row of {options.suite} can be trained yet.")
    table = _table_file(root, options)
    _train(jobs, set_up, options)
    findings = [scoreboard.found(plan) for plan in plans]
    scoreboard.write(table, rows, findings)
    return _report([finding for finding in findings if finding.plan in wanted], table, root, options)


def _set_up(wanted: Sequence["Plan"], options: Options) -> Callable[["RunConfig"], None]:
    """Set JAX up in this process; returns what does the same in a worker process."""
    from rlgd.cli import jax_setup

    set_up = functools.partial(jax_setup.set_up, device=options.device, deterministic_ops=options.deterministic_ops)
    if options.workers > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes share a GPU's memory
    for config in [plan.settings for plan in wanted if plan.settings is not None][:1]:
        set_up(config)
    return set_up


def _table_file(root: Path, options: Options) -> Path:
    """Where the table is written, which is found out before hours of training."""
    from rlgd.reproduction import scoreboard

    automatic = scoreboard.automatic(options.suite, root, by_itself=options.run_dir is None)
    path = Path(options.out) if options.out else automatic
    scoreboard.make_room(path)
    return path


def _train(jobs: Sequence["Job"], set_up: Callable[["RunConfig"], None], options: Options) -> None:
    """Train the runs, and say how each ended."""
    from rlgd.reproduction import scoreboard, workers

    ended = itertools.count(1)

    def on_progress(job: "Job", trouble: str | None) -> None:
        number = next(ended)
        if trouble is not None or not (options.quiet or options.json):
            result = trouble or scoreboard.outcome(job)
            print(f"  {number} of {len(jobs)}: {job.row} seed {job.seed}: {result}", file=sys.stderr, flush=True)

    with signals.caught() as poll_signal:
        workers.train(jobs, options.workers, set_up, poll_signal, on_progress)


def _report(findings: Sequence["Finding"], table: Path, root: Path, options: Options) -> int:
    """Print what was found, for a person or as JSON; returns the exit code."""
    from rlgd.reproduction import scoreboard

    if options.json:
        print(json.dumps({"suite": options.suite, "table": str(table), "rows": scoreboard.records(findings)}))
    else:
        print(scoreboard.table(findings))
        print(f"\ntable:       {table}")
        print(f"curves:      {tensorboard_command()} --logdir {root}")
    return 0 if all(finding.reached for finding in findings) else 1
