"""``summary.json``: how a run ended."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd.errors import StorageFault
from rlgd.run.layout import SUMMARY
from rlgd.run.stopping import CRITERIA
from rlgd.system import files
from rlgd.system.files import MAX_JSON, write_json

if TYPE_CHECKING:
    from rlgd.evaluation.evaluator import EvalResult


def describe(result: "EvalResult", env_id: str) -> dict[str, Any]:
    """An evaluation in a few numbers."""
    return {
        "env": env_id,
        "episodes": len(result.returns),
        "policy": "greedy" if result.deterministic else "sampled",
        "mean_return": result.mean,
        "std_return": result.std,
        "mean_length": float(result.lengths.mean()),
    }


INTERRUPTED = "interrupted"  # the reason of a run that a signal ended


def write_summary(directory: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``.

    Raises:
        StorageFault: if it cannot be written.
    """
    try:
        write_json(directory / SUMMARY, summary)
    except OSError as error:
        raise StorageFault(f"{directory / SUMMARY} cannot be written: {files.why(error, directory)}") from error


def read_summary(directory: Path) -> dict[str, Any]:
    """The summary of a run; empty if it has none."""
    try:
        with (directory / SUMMARY).open(encoding="utf-8") as file:
            content = json.loads(file.read(MAX_JSON))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def is_finished(directory: Path, steps: int) -> bool:
    """Whether a run ended at these steps by itself, and was evaluated: the summary is the last that is written."""
    summary = read_summary(directory)
    return summary.get("steps") == steps and summary.get("reason") in ("total_timesteps", *CRITERIA)
