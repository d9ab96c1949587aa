"""``rlgd reproduce``."""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

from rlgd.cli.flags import Flags, doc, output_flags, parse, take_first
from rlgd.cli.output import tensorboard_command
from rlgd.errors import UsageError
from rlgd.system import signals


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
    from rlgd.cli import jax_setup
    from rlgd.reproduction import jobs as jobs_module
    from rlgd.reproduction import runs as runs_module
    from rlgd.reproduction import scoreboard, workers
    from rlgd.reproduction.suite import read_suite

    suite = read_suite(name)
    workers.check_workers(options.workers)
    root = Path(options.run_dir or Path("runs", "reproduce", name))
    rows = runs_module.row_runs(suite, root, options.seeds)
    wanted = runs_module.select_rows(suite, rows, options.only)
    set_up = functools.partial(jax_setup.set_up, device=options.device, deterministic_ops=options.deterministic_ops)
    if options.workers > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is for all of them
    for settings in [runs.config for runs in wanted if runs.config is not None][:1]:
        set_up(settings)
    jobs = [job for runs in wanted for job in jobs_module.unfinished_jobs(runs)]
    silent = options.quiet or options.json
    if options.dry_run or not silent:
        print(scoreboard.forecast(wanted, jobs), file=sys.stdout if options.dry_run else sys.stderr, flush=True)
    if options.dry_run:
        return 0
    if all(runs.why_not for runs in wanted):
        raise UsageError(f"no row of {name} can be trained yet.")
    out = Path(options.out) if options.out else scoreboard.automatic(name, root, in_docs=options.run_dir is None)
    scoreboard.make_room(out)
    ended = 0

    def on_job(job: Any, problem: str | None) -> None:
        nonlocal ended
        ended += 1
        if problem is not None or not silent:
            text = f"  {ended} of {len(jobs)}: {job.row} seed {job.seed}: {problem or scoreboard.score_text(job)}"
            print(text, file=sys.stderr, flush=True)

    with signals.caught() as poll_signal:
        workers.train(jobs, options.workers, set_up, poll_signal, on_job)
    results = [scoreboard.row_result(runs) for runs in rows]
    scoreboard.write(out, suite, results)
    shown = [result for result in results if result.runs in wanted]
    if options.json:
        print(json.dumps({"suite": name, "table": str(out), "rows": scoreboard.records(shown)}))
    else:
        print(scoreboard.table(shown))
        print(f"\ntable:       {out}")
        print(f"curves:      {tensorboard_command()} --logdir {root}")
    return 0 if all(result.reached for result in shown) else 1
