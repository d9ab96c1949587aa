"""Where the rows of a run go: file, TensorBoard, console."""

from typing import Protocol

from rlgd.run.sinks.rows import Row


class Sink(Protocol):
    """Takes rows while a run trains."""

    def write(self, row: Row) -> None:
        """Take a row; rows come in the order of their steps."""

    def close(self) -> None:
        """End: no row follows."""
