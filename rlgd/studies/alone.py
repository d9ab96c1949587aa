"""One member of a study as a run of its own, as on the host."""

import math

from rlgd.errors import Diverged
from rlgd.evaluation import evaluator
from rlgd.evaluation.evaluator import evaluate
from rlgd.run import api
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig
from rlgd.run.sinks.rows import Row
from rlgd.studies.outcome import DIVERGED, Outcome
from rlgd.training.loop import iterations_done


class _RowCollector:
    """A sink that keeps the rows of a run in memory."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def write(self, row: Row) -> None:
        self.rows.append(row)

    def close(self) -> None:
        pass


def train_alone(config: RunConfig) -> Outcome:
    """Train and evaluate one member as a run of its own, on the host."""
    collector = _RowCollector()
    rows, diverged = collector.rows, None
    try:
        result = api.execute(config, sinks=[collector])
        policy, evaluation, state = result.policy, result.evaluation, result.state
    except Diverged as error:
        policy, evaluation, diverged, state = error.policy, None, str(error), error.state
    evaluation = evaluation or evaluate(
        policy,
        config.evaluation_env,
        episodes=config.settings.eval_episodes,
        seed=evaluator.EVAL_SEED,
        max_steps=cadence(config).eval_max_steps,
    )
    mean, length, iterations = evaluation.mean, float(evaluation.lengths.mean()), iterations_done(state)
    if diverged is not None:
        step, seconds = (rows[-1].step, rows[-1].seconds) if rows else (0, 0.0)
        return Outcome(mean, length, step, seconds, DIVERGED, diverged, math.nan, tuple(rows), iterations)
    end = (result.steps, result.training_seconds, result.reason, result.why)
    return Outcome(mean, length, *end, math.nan, tuple(rows), iterations)
