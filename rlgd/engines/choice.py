"""Which engine runs the jobs of a command. Its library is imported when its executor is opened."""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from rlgd.errors import UsageError, unknown

LOCAL, SLURM, DASK, RAY = "local", "slurm", "dask", "ray"
MODULES = {SLURM: "submitit", DASK: "distributed", RAY: "ray"}  # what each needs; the extra has the engine's name
ENGINES = (LOCAL, *MODULES)
WITH_ADDRESS = (DASK, RAY)


@dataclasses.dataclass(frozen=True)
class EngineChoice:
    """An engine, and how it is reached.

    Attributes:
        name: one of ``ENGINES``; "local": no executor, this process trains.
        address: of a Dask scheduler or a Ray cluster that runs already; None: one is started on this machine.
        arguments: of Slurm's jobs, by submitit's names, such as ``timeout_min``; "cluster" is submitit's kind of
            cluster: "local" runs the jobs on this machine, without Slurm.
    """

    name: str = LOCAL
    address: str | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def validate(self) -> None:
        """Check the choice, before anything is trained.

        Raises:
            UsageError: for an engine that is unknown or not installed, or what it does not take.
        """
        if self.name not in ENGINES:
            raise unknown("engine", self.name, ENGINES)
        if self.address is not None and self.name not in WITH_ADDRESS:
            raise UsageError(
                f"engine_address is {self.address!r}, but the engine {self.name} has none; only "
                f"{' and '.join(WITH_ADDRESS)} take one."
            )
        if self.arguments and self.name != SLURM:
            raise UsageError(f"engine_arg {next(iter(self.arguments))!r} is for the engine {SLURM}, not {self.name}.")
        if self.name != LOCAL and not _is_installed(MODULES[self.name]):
            raise UsageError(f"the engine {self.name} is not installed: pip install 'rlgd[{self.name}]'.")

    @contextlib.contextmanager
    def executor(self, workers: int | None, logs: Path) -> Iterator[Executor | None]:
        """The engine's executor while it is used; None for the engine "local".

        Args:
            workers: processes of a cluster that is started here; None: one for each core.
            logs: the folder for what Slurm's jobs read, print and return; they must be able to read it.

        Raises:
            UsageError: if the engine cannot be reached.
        """
        self.validate()
        if self.name == LOCAL:
            yield None
        elif self.name == SLURM:
            from rlgd.engines import slurm

            with slurm.opened(logs, self.arguments) as executor:
                yield executor
        elif self.name == DASK:
            from rlgd.engines import dask_cluster

            with dask_cluster.opened(self.address, workers) as executor:
                yield executor
        else:
            from rlgd.engines import ray_cluster

            with ray_cluster.opened(self.address, workers) as executor:
                yield executor


def _is_installed(module: str) -> bool:
    """Whether a module can be imported. A folder of this name in the working directory has a spec, but no origin."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None
