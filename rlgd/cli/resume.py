"""``rlgd resume``."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rlgd.cli.options import UNKNOWN, RunOptions, flag, flags_of, part, positional
from rlgd.cli.output import announce, report, sinks_of
from rlgd.cli.run_selection import newest
from rlgd.system import signals

if TYPE_CHECKING:
    from rlgd.agents.base.agent import Agent
    from rlgd.run.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class Options(RunOptions):
    """Continue a run from its newest checkpoint, to its end or to a new one.

    Traced hyper-parameters may change, and so may the criteria to stop and how often the run is evaluated and saved.
    """

    directory: str = positional("RUN", "a directory that `rlgd train` wrote", newest)
    env: str | None = flag(None, "the environment, where the run's own id is not enough", "ID", group="run")
    hyperparameters: "Agent" = dataclasses.field(default=UNKNOWN, metadata=part())
    settings: "RunSettings" = dataclasses.field(default=UNKNOWN, metadata=part(lambda metadata: metadata["resumable"]))

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Self:
        """What the run has."""
        from rlgd.run import config_file

        directory = Path(given["directory"])
        agent, _ = config_file.read_agent(directory)
        settings = config_file.read_settings(directory)
        return cls(directory=given["directory"], hyperparameters=agent, settings=settings)


def run(options: Options) -> int:
    """Check the changes, say what will run where, and train on."""
    from rlgd.cli import jax_setup
    from rlgd.run import changes as changes_module
    from rlgd.run import config_file

    directory = Path(options.directory)
    changes = _changes(options)
    config = changes_module.with_changes(config_file.read(directory, options.env), changes)
    config.validate()
    jax_setup.set_up(config, options.computing, processes=options.processes)
    from rlgd.run.api import resume
    from rlgd.system.processes import is_first

    first = is_first()
    if first:
        announce(config, options)
    with signals.caught() as poll_signal:
        result = resume(
            directory,
            env=options.env,
            sinks=sinks_of(options, config.settings.total_timesteps) if first else (),
            poll_signal=poll_signal,
            metrics=False,
            **changes,
        )
    return report(result, config.evaluation_env.env_id, options) if first else 0


def _changes(options: Options) -> dict[str, Any]:
    """The settings that are given, whatever their values, by their flat names."""
    flags = [flag for name, flag in flags_of(options).items() if name in options.given]
    return {flag.path[-1]: flag.default for flag in flags if len(flag.path) > 1}
