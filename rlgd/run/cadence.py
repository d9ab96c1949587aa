"""How often things happen in a run, as numbers: computed once, from the configuration."""

import dataclasses

from rlgd.envs import HostEnv
from rlgd.evaluation.evaluator import MAX_STEPS
from rlgd.run.config import RunConfig
from rlgd.run.settings import CheckpointInterval
from rlgd.run.sinks.rows import ROWS_PER_RUN
from rlgd.training import chunks
from rlgd.training.rollout import rollout_length

EVALUATIONS = 20  # in a run whose criteria need evaluations, if ``eval_every`` is not set
LEAST_EVAL_STEPS = 1_000  # of an episode of an evaluation, however short the run


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often things happen in a run.

    Attributes:
        total_timesteps: environment steps of the run.
        iteration_steps: environment steps of an iteration; at most, where an agent takes whole episodes.
        chunk_length: iterations in a chunk.
        row_length: iterations that are averaged into a row of the curves.
        eval_steps: environment steps between evaluations; None: none during training.
        eval_max_steps: the longest episode of an evaluation in an environment without a time limit, so that all
            evaluations together take about as many steps as training; None: the environment's limit.
        checkpoints: the time between checkpoints.
    """

    total_timesteps: int
    iteration_steps: int
    chunk_length: int
    row_length: int
    eval_steps: int | None
    eval_max_steps: int | None
    checkpoints: CheckpointInterval

    @property
    def pauses(self) -> tuple[int, ...]:
        """A chunk ends with the iteration that reaches a multiple of one of these numbers of steps."""
        return tuple(every for every in (self.eval_steps, self.checkpoints.steps) if every is not None)

    def next_pause(self, steps: int) -> int:
        """The step that ends the next chunk, if nothing ends it earlier."""
        return chunks.next_pause(steps, self.total_timesteps, self.pauses)


def cadence(config: RunConfig, rows: int = ROWS_PER_RUN) -> Cadence:
    """The cadence of a run, with about ``rows`` rows in its curves."""
    settings, total = config.settings, config.settings.total_timesteps
    iteration_steps = config.agent.num_envs * rollout_length(config.agent, config.env.spec)
    eval_steps = settings.eval_every
    if eval_steps is None and settings.stopping.evaluates:
        eval_steps = max(1, total // EVALUATIONS)
    return Cadence(
        total_timesteps=total,
        iteration_steps=iteration_steps,
        chunk_length=config.chunk_length or chunks.chunk_length(config.agent, config.env),
        row_length=max(1, total // (iteration_steps * rows)),
        eval_steps=eval_steps,
        eval_max_steps=_eval_max_steps(config, -(-total // (eval_steps or total))),
        checkpoints=settings.checkpoint_interval(),
    )


def _eval_max_steps(config: RunConfig, evaluations: int) -> int | None:
    env, settings = config.env, config.settings
    if env.spec.max_episode_steps is not None or (isinstance(env, HostEnv) and env.running):
        return None
    share = settings.total_timesteps // (evaluations * settings.eval_episodes)
    return min(max(share, LEAST_EVAL_STEPS), MAX_STEPS)


def crosses(every: int | None, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` steps lies after ``before`` and not after ``now``."""
    return every is not None and now // every > before // every
