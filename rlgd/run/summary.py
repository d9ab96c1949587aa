"""``summary.json``: how a run ended."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd.errors import StorageFault
from rlgd.run.layout import SUMMARY
from rlgd.system import files
from rlgd.system.files import write_json
from rlgd.system.reading import parse_json, read_text

if TYPE_CHECKING:  # `rlgd runs` reads summaries, and needs no JAX for that
    from rlgd.evaluation.evaluator import EvalResult
    from rlgd.run.evaluations import Evaluations
    from rlgd.run.sinks.rows import RowAverager
    from rlgd.run.status import RunStatus

INTERRUPTED = "interrupted"  # the reason of a run that a signal ended


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


def summarize(reason: str, status: "RunStatus", averager: "RowAverager", evaluations: "Evaluations") -> dict[str, Any]:
    """What ``summary.json`` says of a run that ended for this ``reason``."""
    summary: dict[str, Any] = {
        "reason": reason,
        "why": "" if status.stop is None else status.stop.why,
        "steps": averager.step,
        "iterations": averager.iteration,
        "training_seconds": averager.seconds,
        "compile_seconds": averager.compile_seconds,
        "steps_per_second": averager.step / max(averager.seconds, 1e-9),
    }
    if status.criteria.has_best:
        summary["best"] = {"step": status.criteria.best_step, "mean_return": status.criteria.best_return}
    if evaluations.result is not None:
        summary["evaluation"] = describe(evaluations.result, evaluations.env.env_id)
    return summary


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
        return parse_json(read_text(directory / SUMMARY), dict[str, Any])
    except (OSError, ValueError):
        return {}


def is_finished(directory: Path, steps: int) -> bool:
    """Whether a run ended at these steps by itself, and was evaluated: the summary is written last."""
    summary = read_summary(directory)
    return summary.get("steps") == steps and ended_by_itself(summary.get("reason"))


def ended_by_itself(reason: Any) -> bool:
    """Whether a run with this reason was trained to its end: its steps, or a criterion."""
    from rlgd.run.stopping import CRITERIA

    return reason in ("total_timesteps", *CRITERIA)
