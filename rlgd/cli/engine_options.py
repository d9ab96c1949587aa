"""Options of the commands whose jobs an engine can run."""

import dataclasses

from rlgd.cli.options import OutputOptions, flag, key_value
from rlgd.engines.choice import LOCAL, EngineChoice


@dataclasses.dataclass(frozen=True)
class EngineOptions(OutputOptions):
    """Where jobs run."""

    engine: str = flag(
        LOCAL,
        "where jobs run: local is this machine; the others need their extra",
        "local|slurm|dask|ray",
        group="engine",
    )
    engine_address: str | None = flag(
        None,
        "of the Dask scheduler or the Ray cluster; the default starts one on this machine",
        "ADDRESS",
        group="engine",
    )
    engine_arg: tuple[str, ...] = flag(
        (), "settings of Slurm's jobs, by submitit's names, such as timeout_min=600", "NAME=VALUE ...", group="engine"
    )

    @property
    def engine_choice(self) -> EngineChoice:
        """The engine, checked.

        Raises:
            UsageError: see ``EngineChoice.validate``.
        """
        arguments = dict(key_value(text, "--engine-arg") for text in self.engine_arg)
        choice = EngineChoice(self.engine, self.engine_address, arguments)
        choice.validate()
        return choice
