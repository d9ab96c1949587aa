"""The evaluations of a run."""

import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from rlgd.envs import DeviceEnv, Env
from rlgd.evaluation import evaluator
from rlgd.evaluation.evaluator import EVAL_SEED, EvalResult
from rlgd.evaluation.policy import Policy
from rlgd.exact import comparison
from rlgd.pytrees import AgentState, LoopState
from rlgd.run.config import RunConfig

log = logging.getLogger("rlgd")


class EvaluationRow(NamedTuple):
    """An evaluation, and what the curves show of it."""

    result: EvalResult
    values: dict[str, float]


class Evaluations:
    """Plays episodes with the policy of a run, and keeps what is to be its result.

    Args:
        config: the run's.
        max_steps: the longest episode; None: the environment's time limit.
        stored_best: reads the best policy of an earlier part of the run.
        between: called between steps in Gymnasium; what it raises ends the evaluation.

    Attributes:
        result: the newest evaluation, with ``patience`` the best one; None before the first.
        best: the agent's state at the best evaluation; None if there was none since this process began.
    """

    def __init__(
        self,
        config: RunConfig,
        max_steps: int | None,
        stored_best: Callable[[], Policy],
        between: Callable[[], None],
    ) -> None:
        self.config, self.env, self.max_steps = config, config.evaluation_env, max_steps
        self.result: EvalResult | None = None
        self.best: AgentState | None = None
        self._stored_best, self._between = stored_best, between

    def measure(self, loop: LoopState) -> EvaluationRow:
        """Evaluate the present policy, and in an exact problem its gradient estimates too."""
        result = self._play(self.policy(loop.agent_state), EVAL_SEED)
        values = {"eval/episode_return": result.mean, "eval/episode_length": float(result.lengths.mean())}
        agent, env = self.config.agent, self.config.env
        if agent.measure_every and isinstance(env, DeviceEnv) and comparison.applies(agent, env):
            key = jax.random.fold_in(jax.random.key(EVAL_SEED), loop.iteration)  # which training does not use
            error = comparison.compare(agent.prepared(), env, loop.agent_state, key)
            values |= {f"exact/{name}": float(value) for name, value in error._asdict().items()}
        return EvaluationRow(result, values)

    def second_mean(self, loop: LoopState) -> float:
        """The mean return of the present policy on other episodes."""
        return self._play(self.policy(loop.agent_state), EVAL_SEED + 1).mean

    def keep(self, result: EvalResult, state: AgentState, is_best: bool) -> None:
        """Keep an evaluation, and the state of a new best one."""
        if is_best or self.config.settings.stopping.patience is None:
            self.result = result
        if is_best:
            self.best = state

    def complete(self, policy: Policy) -> None:
        """Evaluate the policy that the run ends with, if that result is missing.

        In a resumed run a kill may have come after the row of the evaluation and before the summary, and with
        ``patience`` the best policy may be older than this part of the run.
        """
        if self.result is None:
            self.result = self._play(policy, EVAL_SEED)

    def policy(self, state: AgentState) -> Policy:
        """The policy of a state."""
        return Policy(self.config.agent, self.config.env.spec, state.actor)

    def best_policy(self) -> Policy:
        """The policy that was evaluated best."""
        return self._stored_best() if self.best is None else self.policy(self.best)

    def _play(self, policy: Policy, seed: int) -> EvalResult:
        episodes = self.config.settings.eval_episodes
        return evaluator.evaluate(policy, self._limited_env, episodes=episodes, seed=seed, between=self._between)

    @functools.cached_property
    def _limited_env(self) -> Env:
        """The environment with its limit: made once, because it remembers what is measured of it."""
        return evaluator.playable(None, self.env, self.max_steps)

    def announce(self) -> None:
        """Say what is evaluated at the end of a run: it can take as long as training."""
        limit = "" if self.max_steps is None else f", at most {self.max_steps:,} steps each, as it has no time limit"
        episodes = self.config.settings.eval_episodes
        log.info("evaluating %d episodes of the greedy policy in %s%s ...", episodes, self.env.env_id, limit)

    def warn_of_cut_episodes(self) -> None:
        """Say how many episodes of the newest evaluation had not ended at ``max_steps``."""
        cut = 0 if self.result is None else int(np.count_nonzero(self.result.lengths == self.max_steps))
        if cut:
            log.warning(
                "%d of %d episodes of the evaluation did not end within %s steps; max_episode_steps sets a time limit.",
                cut, self.config.settings.eval_episodes, f"{self.max_steps:,}",
            )  # fmt: skip
