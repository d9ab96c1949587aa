"""The command line. Flags come from the dataclasses; the command and the agent are chosen before jax is imported."""

import importlib
import os
import sys

from rlgd.cli.commands import COMMANDS
from rlgd.cli.output import messages, say
from rlgd.errors import Interrupted, RlgdError, unknown
from rlgd.system import signals

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


OUT_OF_MEMORY = (
    "out of memory; fewer --num-envs or a shorter --rollout-length need less, more --num-minibatches too; in a study a "
    "smaller --slice-size"
)


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
            module, function = COMMANDS[argv[0]]
            return getattr(importlib.import_module(module), function)(argv[1:])
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
