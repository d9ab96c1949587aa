"""A search as pictures: how the scores grew, and which hyper-parameters decided them."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlgd.studies.figures import PANEL, png
from rlgd.tuning.journal import import_optuna
from rlgd.tuning.sharing import HISTORY, IMPORTANCE

if TYPE_CHECKING:
    import optuna

MIN_TRIALS = 10  # complete ones: of fewer there is no best tenth
MARKERS = {"complete": "o", "pruned": "x"}


def draw(study: "optuna.Study", trials: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """The figures of a search, as PNG, by the names of their files.

    Args:
        study: Optuna's.
        trials: as in ``TuneResult.trials``, at least one of them complete.
    """
    figures = {HISTORY: png(history(trials))}
    if (
        sum(trial["state"] == "complete" for trial in trials) >= MIN_TRIALS
        and max(len(trial["values"]) for trial in trials) > 1
    ):
        figures[IMPORTANCE] = png(_bars(importances(study)))
    return figures


def history(trials: Sequence[Mapping[str, Any]]) -> Figure:
    """The score of each trial, and the best one so far. Pruned trials do not count; they were scored too early."""
    figure = Figure(figsize=PANEL, layout="constrained")
    axes = figure.add_subplot()
    for state, marker in MARKERS.items():
        scored = [trial for trial in trials if trial["state"] == state and not math.isnan(trial["score"])]
        if scored:
            numbers, scores = zip(*((trial["number"], trial["score"]) for trial in scored), strict=True)
            axes.plot(numbers, scores, marker, label=state, markersize=5, alpha=0.8)
            if state == "complete":
                axes.step(numbers, np.maximum.accumulate(scores), where="post", label="best so far", linewidth=1.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel("score")
    axes.legend(fontsize="small")
    return figure


def importances(study: "optuna.Study") -> dict[str, float]:
    """The share of each hyper-parameter in what tells the best tenth of the trials from the others (PED-ANOVA)."""
    importance = import_optuna().importance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that all are equal where the trials do not differ; the figure shows it
        shares: dict[str, float] = importance.get_param_importances(
            study, evaluator=importance.PedAnovaImportanceEvaluator()
        )
    return shares


def _bars(shares: Mapping[str, float]) -> Figure:
    figure = Figure(figsize=(PANEL[0], 1.2 + 0.4 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(list(shares)[::-1], list(shares.values())[::-1])
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize="small")
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("importance for the best tenth of the trials")
    return figure
