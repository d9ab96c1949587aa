"""The command line. A command's module is imported when the command is called, so that help comes at once."""

import errno
import os
import sys
from typing import TYPE_CHECKING

from rlgd.cli import commands
from rlgd.cli.output import forgiving_errors, messages, say
from rlgd.errors import Interrupted, RlgdError, StorageFault, shortened
from rlgd.system import signals

if TYPE_CHECKING:
    from rlgd.cli.parser import Asked

OUT_OF_MEMORY = (
    "out of memory; fewer --num-envs or a shorter --rollout-length need less, more --num-minibatches too; in a study a "
    "smaller --slice-size"
)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)  # what writing to an output can end with


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code (``docs/runs.md`` lists them)."""
    with forgiving_errors():
        return _main(sys.argv[1:] if argv is None else argv)


def _main(argv: list[str]) -> int:
    if argv[:1] == ["help"]:  # as many programs have it
        argv = [*argv[1:], "--help"]
    match argv:
        case [] | ["-h" | "--help", *_]:
            from rlgd.cli import help_page

            print(help_page.overview(), end="")
            return 0 if argv else 2
        case ["--version" | "version", *_]:
            from rlgd import __version__

            print(__version__)
            return 0
    debug = False
    try:
        with signals.raised():
            if argv[0] in ("--tyro-print-completion", "--tyro-write-completion"):
                from rlgd.cli import completion

                return completion.write_script(argv)
            name, words = commands.find(argv)
            from rlgd.cli import parser

            asked = parser.asked(words)
            debug = asked.debug
            if (package := parser.trusted(words)) is not None:
                from rlgd.plugins import trust

                trust(package)
            with messages(asked.quiet or asked.json):
                return _run(name, words, asked)
    except Interrupted as interrupted:
        if not interrupted.another_says:
            say(str(interrupted))
        return interrupted.exit_code
    except RlgdError as error:
        if debug:
            raise
        say(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:
        # The reader of the output has closed it, as `| head` does; the interpreter's own last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        if error.filename is None and error.errno in FULL:
            where = "an output cannot be written: "
        else:
            where = f"{error.filename}: " if error.filename else ""
        say(f"error: {shortened(f'{where}{error.strerror or error}.')}")
        return StorageFault.exit_code if where else 1
    except Exception as error:
        # JAX raises it where the allocator fails, on a device or while compiling.
        if "RESOURCE_EXHAUSTED" not in str(error) or debug:
            raise
        say(f"error: {OUT_OF_MEMORY}: {str(error).splitlines()[0]}")
        return 1
    except KeyboardInterrupt as interrupt:
        say("interrupted")
        return signals.exit_code(interrupt)


def _run(name: str, words: list[str], asked: "Asked") -> int:
    """Run a command, or show its help."""
    from rlgd.cli import parser

    command = commands.COMMANDS[name].load()
    text = parser.help_text(name, command.Options, words, asked)
    if text is not None:
        print(text, end="")
        return 0 if words else 2
    return command.run(parser.parse(name, command.Options, words))
