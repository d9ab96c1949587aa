"""What a population found: the schedule of its winner, and the files that show it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from rlgd import hyperparameters
from rlgd.agents.base.agent import Agent
from rlgd.errors import StorageFault
from rlgd.evaluation.evaluator import EvalResult
from rlgd.evolution.dimension import SCHEDULES, Dimension
from rlgd.run.sinks import tensorboard
from rlgd.system import files
from rlgd.tables import markdown_within

BEST, TABLE, SUMMARY, TENSORBOARD = "best.json", "generations.csv", "summary.md", "tensorboard"


@dataclasses.dataclass(frozen=True, repr=False)
class EvolveResult:
    """The result of ``evolve``. G generations, M members, D hyper-parameters.

    Attributes:
        dimensions: what evolved.
        values: with which each member trained in each generation, ``[G, M, D]``.
        scores: mean return of its episodes then, ``[G, M]``; -inf where none had ended, or it diverged.
        parents: the member that each is a copy of in the next generation, ``[G, M]``.
        steps: environment steps of the whole population.
        evaluation: of the winner's greedy policy.
        agent: the winner's, with the values of its last generation.
        flags: of a plain run that follows the winner's values, for ``rlgd train --config``.
        evolve_dir: the directory.
    """

    dimensions: tuple[Dimension, ...]
    values: np.ndarray
    scores: np.ndarray
    parents: np.ndarray
    steps: int
    evaluation: EvalResult
    agent: Agent
    flags: dict[str, Any]
    evolve_dir: Path

    def __repr__(self) -> str:
        best = ", ".join(f"{d.name}={self.line[-1, n]:.3g}" for n, d in enumerate(self.dimensions))
        return f"EvolveResult({best} at last, return {self.evaluation.mean:.1f}, in {self.evolve_dir})"

    @property
    def line(self) -> np.ndarray:
        """The values of the winner's line: its own in the last generation, before that its ancestors', ``[G, D]``."""
        return line(self.values, self.scores, self.parents)

    def table(self, width: int | None = None) -> str:
        """A row for each generation, in Markdown: scores, and the winner's line."""
        headings = ["generation", "best score", "median score", *(d.name for d in self.dimensions)]
        rows = [
            [
                str(n + 1),
                _number(np.max(self.scores[n])),
                _number(np.median(self.scores[n])),
                *(f"{x:.3g}" for x in self.line[n]),
            ]
            for n in range(len(self.values))
        ]
        return markdown_within(width, headings, rows, headings[:1], TABLE)


def line(values: np.ndarray, scores: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """The values of the best member of the last generation and, before that, of those it descends from, ``[G, D]``."""
    member = int(np.argmax(scores[-1]))
    found = [values[-1, member]]
    for generation in range(len(values) - 2, -1, -1):
        member = int(parents[generation, member])
        found.insert(0, values[generation, member])
    return np.stack(found)


def winner_s_flags(agent: Agent, dimensions: tuple[Dimension, ...], found: np.ndarray) -> dict[str, Any]:
    """The flags of a plain run with the values ``found [G, D]``: a number and its schedule, a step a generation.

    A hyper-parameter without a schedule takes the last value.
    """
    flags: dict[str, Any] = {}
    known = hyperparameters.flat_fields(agent)
    for column, dimension in zip(found.T.astype(float), dimensions, strict=True):
        schedule, highest = SCHEDULES.get(dimension.name), float(np.max(column))
        if schedule not in known or highest == 0 or np.all(column == highest):
            flags[dimension.name] = _rounded(column[-1])
            continue
        flags[dimension.name] = _rounded(highest)
        flags[schedule] = steps(column / highest)
    return flags


def steps(factors: np.ndarray) -> str:
    """A schedule that has each factor for an equal share of the run."""
    points: list[tuple[float, float]] = []
    for n, factor in enumerate(factors):
        if points and f"{factor:.4g}" == f"{points[-1][1]:.4g}":
            points[-1] = (n + 1) / len(factors), factor
        else:
            points += [(n / len(factors), factor), ((n + 1) / len(factors), factor)]
    return "piecewise:" + ",".join(f"{share:.6g}={factor:.4g}" for share, factor in points)


def publish(result: EvolveResult) -> None:
    """Write the table, the flags of the winner, and the curves for TensorBoard.

    Raises:
        StorageFault: if they cannot be written.
    """
    directory, names = result.evolve_dir, [d.name for d in result.dimensions]
    records = ["generation,member,parent,score," + ",".join(names)]
    for (n, m), score in np.ndenumerate(result.scores):
        numbers = ",".join(f"{x:.6g}" for x in result.values[n, m])
        records.append(f"{n + 1},{m},{result.parents[n, m]},{score:.6g},{numbers}")
    per_member = result.steps // max(result.scores.shape[1], 1)
    scalars = [
        (
            round((n + 1) * per_member / len(result.scores)),
            {
                "answer/best score": float(np.max(result.scores[n])),
                "answer/median score": float(np.median(result.scores[n])),
            }
            | {f"winner/{name}": float(x) for name, x in zip(names, result.line[n], strict=True)}
            | {f"median/{name}": float(np.median(result.values[n, :, i])) for i, name in enumerate(names)},
        )
        for n in range(len(result.scores))
    ]
    scalars = [(step, {tag: x for tag, x in values.items() if np.isfinite(x)}) for step, values in scalars]
    try:
        files.replace(directory / TABLE, "\n".join(records) + "\n")
        files.replace(directory / BEST, json.dumps(result.flags, indent=2) + "\n")
        files.replace(directory / SUMMARY, result.table() + "\n")
        tensorboard.remove_runs(files.make_folder(directory, TENSORBOARD))
        tensorboard.write_board(directory / TENSORBOARD, 0.0, tensorboard.Board(scalars, {"answer": result.table()}))
    except OSError as error:
        raise StorageFault(f"the results could not be written: {files.why(error, directory)}.") from error


def _number(value: Any) -> str:
    return f"{value:.1f}" if np.isfinite(value) else ""


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
