"""``rlgd reproduce``."""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlgd.cli.engine_options import EngineOptions
from rlgd.cli.options import flag, positional
from rlgd.cli.output import tensorboard, terminal_width
from rlgd.engines.choice import LOCAL
from rlgd.errors import UsageError, whole_number
from rlgd.system import signals

if TYPE_CHECKING:
    from rlgd.reproduction.jobs import Job
    from rlgd.reproduction.runs import RowRuns
    from rlgd.reproduction.scoreboard import RowResult
    from rlgd.run.config import RunConfig

JOBS = "jobs"  # the folder of an engine's files, beside the runs


@dataclasses.dataclass(frozen=True)
class Options(EngineOptions):
    """Train a table of environments and agents from the presets, and set the scores beside published ones.

    Suites: atari, box2d, classic, craftax, minatar, mujoco, playground. The exit code is 1 if a published score is not
    reached.
    """

    suite: str = positional("SUITE", "atari, box2d, classic, craftax, minatar, mujoco or playground")
    seeds: int | None = flag(None, "seeds of each row; the default is 20 on the device, 5 on the host")
    auto: bool = flag(False, "train with settings by rule, as `rlgd train --auto`, instead of the presets")
    only: tuple[str, ...] = flag((), "train only these rows", "ENV[:AGENT] ...")
    workers: int | None = flag(
        None, "runs that train at once, each in a process; the default is 1, with an engine all that it takes"
    )
    dry_run: bool = flag(False, "say what would be trained, and stop")
    run_dir: str | None = flag(
        None,
        "where the runs are; those in it are continued. The default is runs/reproduce/<suite>, or <suite>-auto",
        "DIR",
    )
    out: str | None = flag(
        None,
        "file for the table; the default is docs/reproduce-<suite>.md in a checkout, otherwise (or with --run-dir) "
        "reproduce-<suite>.md beside the runs",
        "FILE",
    )


def run(options: Options) -> int:
    """Train what is not finished, and write the table of what is."""
    _ = options.engine_choice  # a mistake in it is found first
    from rlgd.reproduction import jobs as jobs_module
    from rlgd.reproduction import page, scoreboard, suite
    from rlgd.reproduction import runs as runs_module

    rows = suite.read_suite(options.suite)
    if options.workers is not None:
        whole_number("workers", options.workers, 1)
    root = Path(options.run_dir or Path("runs", "reproduce", _name(options)))
    all_runs = runs_module.row_runs(rows, root, options.seeds, options.auto)
    wanted = runs_module.select_rows(rows, all_runs, options.only)
    set_up = _set_up(wanted, options)
    jobs = jobs_module.unfinished_jobs(wanted)
    if options.dry_run or not (options.quiet or options.json):
        output = sys.stdout if options.dry_run else sys.stderr
        print(scoreboard.forecast(wanted, jobs), file=output, flush=True)
    if options.dry_run:
        return 0
    if all(runs.why_not for runs in wanted):
        raise UsageError(f"no row of {options.suite} can be trained yet.")
    table = _table_file(root, options)
    with runs_module.writing(root):
        _train(jobs_module.unfinished_jobs(wanted), root, set_up, options)
        results = [scoreboard.row_result(runs) for runs in all_runs]
        page.write(table, rows, results, options.auto)
    return _report([result for result in results if result.runs in wanted], table, root, options)


def _set_up(wanted: Sequence["RowRuns"], options: Options) -> Callable[["RunConfig"], None]:
    """Set JAX up in this process; returns what does the same in a worker process."""
    from rlgd.cli import jax_setup

    set_up = functools.partial(jax_setup.set_up, computing=options.computing)
    if options.engine != LOCAL or (options.workers or 1) > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes share a GPU's memory
    for config in [runs.config for runs in wanted if runs.config is not None][:1]:
        set_up(config)
    return set_up


def _name(options: Options) -> str:
    """Of the suite's folder and of its table."""
    return f"{options.suite}-auto" if options.auto else options.suite


def _table_file(root: Path, options: Options) -> Path:
    """Where the table is written, which is found out before hours of training."""
    from rlgd.reproduction import page

    default = page.default_path(_name(options), root, in_docs=options.run_dir is None)
    path = Path(options.out) if options.out else default
    page.make_room(path)
    return path


def _train(jobs: Sequence["Job"], root: Path, set_up: Callable[["RunConfig"], None], options: Options) -> None:
    """Train the runs, and say how each ended."""
    from rlgd.cli.progress import ShownProgress
    from rlgd.reproduction import elsewhere, scoreboard, workers
    from rlgd.reproduction.progress import JobsProgress

    def on_job(job: "Job", problem: str | None) -> None:
        if problem is not None or not (options.quiet or options.json):
            result = problem or scoreboard.score_text(job)
            print(f"  {job.row} seed {job.seed}: {result}", file=sys.stderr, flush=True)
        progress.ended(job)

    with (
        options.engine_choice.executor(options.workers, root / JOBS) as executor,
        ShownProgress(options) as shown,
        signals.caught() as poll_signal,
    ):
        progress = JobsProgress(jobs, shown)
        if executor is None:
            workers.train_jobs(jobs, options.workers or 1, set_up, poll_signal, on_job, [progress])
        else:
            elsewhere.train_jobs(jobs, root, executor, options.workers, set_up, poll_signal, on_job)


def _report(results: Sequence["RowResult"], table: Path, root: Path, options: Options) -> int:
    """Print what was found, for a person or as JSON; returns the exit code."""
    from rlgd.reproduction import scoreboard

    if options.json:
        print(json.dumps({"suite": options.suite, "table": str(table), "rows": scoreboard.records(results)}))
    else:
        print(scoreboard.table(results, terminal_width(), str(table)))
        print(f"\ntable:       {table}")
        print(f"curves:      {tensorboard(root)}")
    return 0 if all(result.reached for result in results) else 1
