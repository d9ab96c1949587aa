"""What commands print."""

import contextlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from rlgd.cli.options import OutputOptions, RunOptions
from rlgd.system import signals
from rlgd.system.commands import as_typed, program

if TYPE_CHECKING:
    from rlgd.run.config import RunConfig
    from rlgd.run.result import TrainResult


def announce(config: "RunConfig", options: OutputOptions, origin: str | None = None) -> None:
    """Say what runs where and why, and where its settings come from."""
    if options.quiet or options.json:
        return
    print(where(config), file=sys.stderr)
    if origin is not None:
        print(origin, file=sys.stderr)


def where(config: "RunConfig") -> str:
    """What runs where and why, as a line of text."""
    from rlgd.envs import DeviceEnv, device_ids
    from rlgd.system.machine import device_name

    if isinstance(config.env, DeviceEnv):
        twin = " (its twin of Gymnasium's)" if config.env.env_id in device_ids() else ""
        env = f"{config.env.env_id} on the device{twin}"
    else:
        how = config.env.how(config.agent.num_envs)
        why = "; it has a twin on the device" if config.env.env_id in device_ids() else ""
        env = f"{config.env.env_id} on the host: {how}{why}"
    return f"{type(config.agent).__name__} on {device_name()}; {env}"


def sinks_of(options: RunOptions, total_timesteps: int) -> list[Any]:
    """The progress display, unless the output is to be quiet, and the sinks that are asked for.

    Raises:
        UsageError: if one of those cannot be made.
    """
    from rlgd.run.sinks import registry

    asked = registry.made(registry.parts_of(options.sink, typed=False))
    if options.quiet or options.json:
        return asked
    from rlgd.run.sinks.console import Console

    return [Console(total_timesteps), *asked]


def sentence(summary: dict[str, Any]) -> str:
    """An evaluation as a line of text."""
    return (
        f"evaluation: mean return {summary['mean_return']:.1f} +- {summary['std_return']:.1f} over "
        f"{summary['episodes']} episodes in {summary['env']} ({summary['policy']} policy)"
    )


def report(result: "TrainResult", env_id: str, options: OutputOptions) -> int:
    """Print how a run ended, for a person or as JSON; returns the exit code."""
    from rlgd.run.summary import describe, read_summary

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
    print(f"curves:      {tensorboard(logdir)}")
    return 0


def terminal_width() -> int | None:
    """The width of the terminal that the output goes to; None if it goes elsewhere."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def command(*words: str | Path) -> str:
    """A command of rlgd as the user can type it."""
    return f"{program('rlgd', 'rlgd')} {shlex.join(map(str, words))}"


def tensorboard(logdir: str | Path) -> str:
    """The command that shows the curves in a directory."""
    return f"{program('tensorboard', 'tensorboard.main')} --logdir {shlex.quote(str(logdir))}"


def say(message: str) -> None:
    """Print to the error output."""
    print(f"rlgd: {as_typed(message)}", file=sys.stderr, flush=True)


def end_interrupted(interrupt: KeyboardInterrupt, how_to_continue: str) -> NoReturn:
    """Say that a signal has ended a command whose finished parts are on disk, and end the process.

    It ends at once: threads may be busy for minutes with parts that are not finished.
    """
    say(f"interrupted; what is finished is kept: {how_to_continue}")
    os._exit(signals.exit_code(interrupt))


class Forgiving:
    """A stream that loses what cannot be written: a full disk or a reader that has gone must not end a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def forgiving_errors() -> Iterator[None]:
    """Take a standard error that cannot be written, or is closed, without an exception."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Closed: the next file would get its number, and with it what libraries write to the standard error.
            os.open(os.devnull, os.O_RDWR)
    before = sys.stderr
    with contextlib.ExitStack() as stack:
        stream = before if before is not None else stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        sys.stderr = Forgiving(stream)
        try:
            yield
        finally:
            sys.stderr = before


class ToStderr(logging.Handler):
    """Prints the messages of the library; on the present ``sys.stderr``, which a progress bar replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        say(record.getMessage())


@contextlib.contextmanager
def messages(quiet: bool) -> Iterator[None]:
    """Show the messages of the library: warnings, and if not ``quiet`` its information too."""
    log, handler = logging.getLogger("rlgd"), ToStderr()
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.INFO)  # an assignment would leave what logging remembers of it
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
