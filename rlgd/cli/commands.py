"""The table of commands. A command's module is imported when the command is called."""

import importlib
import shlex
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from rlgd.errors import UsageError, unknown


class Command(NamedTuple):
    """A row of the table: where the command is, what follows its name, and what it does."""

    module: str
    arguments: str
    about: str

    def load(self) -> ModuleType:
        """The module, which has the dataclass ``Options`` and ``run(options) -> exit code``."""
        return importlib.import_module(self.module)


COMMANDS = {
    "train": Command("rlgd.cli.train", "AGENT --env ID [flags]", "train an agent and evaluate it"),
    "resume": Command("rlgd.cli.resume", "RUN [flags]", "continue a run, to its end or further"),
    "eval": Command(
        "rlgd.cli.evaluate", "RUN|FILE [flags]", "play episodes with a trained policy, and report the returns"
    ),
    "play": Command("rlgd.cli.play", "RUN|FILE [flags]", "watch a trained policy, or record a video"),
    "export": Command("rlgd.cli.export", "RUN [flags]", "write a trained policy for ONNX, StableHLO and others"),
    "study": Command("rlgd.cli.study", "NAME|FILE [flags]", "train many values and seeds, and compare them"),
    "study resume": Command("rlgd.cli.study_resume", "DIR [flags]", "continue a study that was interrupted"),
    "study list": Command("rlgd.cli.study_list", "", "list the studies that ship with rlgd"),
    "tune": Command(
        "rlgd.cli.tune", "AGENT --env ID --search NAME=VALUES ... [flags]", "search for good hyper-parameters"
    ),
    "evolve": Command(
        "rlgd.cli.evolve",
        "AGENT --env ID --vary NAME=RANGE ... [flags]",
        "train a population that changes its settings",
    ),
    "reproduce": Command("rlgd.cli.reproduce", "SUITE [flags]", "train agents that have published scores, and compare"),
    "verify-resume": Command(
        "rlgd.cli.verify_resume", "RUN|CONFIG [flags]", "prove that a killed and resumed run ends with the same bits"
    ),
    "check-env": Command("rlgd.cli.check_env", "ID [flags]", "find out whether an environment is sound"),
    "runs": Command("rlgd.cli.runs", "DIR [flags]", "list the runs in a directory, and what came of them"),
    "runs compare": Command(
        "rlgd.cli.runs_compare", "DIR [flags]", "show which settings of runs differ, and the returns, over seeds"
    ),
    "runs prune": Command("rlgd.cli.runs_prune", "DIR [flags]", "remove runs that are not worth keeping"),
    "doctor": Command("rlgd.cli.doctor", "[flags]", "print versions, devices and what is wrong, for a report"),
    "list": Command("rlgd.cli.listing", "THING", "list agents, envs, optimizers, presets, schedules or studies"),
}


def find(words: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the command at the start of a command line, and the words after it.

    Raises:
        UsageError: if there is no such command; it names the nearest one, or for an agent what was meant.
    """
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name, list(words[length:])
    from rlgd.agents.registry import ALIASES, REGISTRY

    if words[0].lower() in {*REGISTRY, *ALIASES}:
        raise UsageError(f"{words[0]} is an agent: `rlgd {shlex.join(['train', *words])}`.")
    raise unknown("command", words[0], {name.partition(" ")[0] for name in COMMANDS})
