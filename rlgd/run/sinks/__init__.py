"""Where a run's rows go: file, TensorBoard, console."""

from typing import Protocol

from rlgd.run.sinks.rows import Row


class Sink(Protocol):
    """Takes rows as training goes on."""

    def write(self, row: Row) -> None: ...

    def close(self) -> None: ...
