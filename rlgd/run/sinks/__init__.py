"""Where a run is seen while it trains: file, TensorBoard, console, services of others, and what a user writes."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgd.evaluation.evaluator import EvalResult
    from rlgd.evaluation.policy import Policy
    from rlgd.run.config import RunConfig
    from rlgd.run.sinks.rows import Row

EVENTS = ("begin", "write", "evaluation", "checkpoint", "close")  # the methods that a sink may have


@dataclasses.dataclass(frozen=True)
class Stop:
    """What a method of a sink returns to end the run, which is saved, evaluated, and can be resumed.

    Attributes:
        why: for ``summary.json`` and the person who reads it.
    """

    why: str


class Sink:
    """What sees a run. Every method may be missing: a sink need not derive from this class.

    An attribute ``name`` is used in messages; with ``needs_directory = True`` a run without a directory is refused.

    A method that returns ``Stop`` ends the run after the chunk; what ``close`` returns has no effect. A method that
    raises is reported once, and the run continues without the sink.
    """

    def begin(self, config: "RunConfig", run_dir: Path | None) -> Stop | None:
        """Training begins, or continues, in this process.

        Args:
            config: of the run.
            run_dir: its directory; None: nothing is written.
        """

    def write(self, row: "Row") -> Stop | None:
        """Take a row of the curves; rows come in the order of their steps."""

    def evaluation(self, result: "EvalResult", policy: "Policy") -> Stop | None:
        """Take an evaluation and the policy that was evaluated; the row written last has its step."""

    def checkpoint(self, step: int, path: Path) -> Stop | None:
        """Take the folder of a checkpoint that is completely on the disk; the run removes it later."""

    def close(self, summary: dict[str, Any]) -> None:
        """End: take what ``summary.json`` holds, whatever ended the run."""
