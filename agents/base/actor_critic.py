"""Agents that learn from rollouts of a fixed length, with a value function."""

import math

from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, static, traced
from rlgd.maths.returns import GAE_CORRECTIONS
from rlgd.models.attention import Attention
from rlgd.models.networks import memory_layer
from rlgd.models.recurrent import CELLS, Recurrence

MOST_ROWS = 2**31 - 1  # of a rollout: 32 bits count them


@hyperparameters
class RolloutAgent(Agent):
    """The hyper-parameters of agents that learn from rollouts of fixed length with a value function."""

    rollout_length: int = static(128, "steps of each environment in one iteration", "[1, inf)")
    gae_lambda: float = traced(0.95, "how far advantages look ahead: 0 one step, 1 the whole return", "[0, 1]")
    gae_correction: str = static(
        "off",
        "weights of advantages over few steps where a rollout or a time limit cuts them off (windows), or an episode's "
        "end too (ends), as those of all others",
        choices=GAE_CORRECTIONS,
    )
    normalize_advantage: bool = static(True, "shift and scale each rollout's advantages to mean 0 and variance 1")
    terminal_on_life_loss: bool = static(
        False, "learn as if a lost life ended the episode, which continues; the infos must have a number `lives`"
    )
    memory_width: int | None = static(None, "width of the layer that remembers; None: 64", "[1, inf)")
    sequence_length: int | None = static(
        None, "steps that gradients reach back where a network remembers; None: the whole rollout", "[2, inf)"
    )
    memory_window: int | None = static(
        None, "observations that attention sees, the present one included; None: 16", "[2, inf)"
    )

    @property
    def reads_lives(self) -> bool:
        """Whether it learns as if episodes ended with each life that is lost."""
        return self.terminal_on_life_loss

    def memory_layer(self, kind: str) -> Recurrence | Attention | None:
        """The layer that remembers in one of ``NETWORKS``; None if it has none."""
        return memory_layer(kind, self.memory_width, self.memory_window)

    def validate(self) -> None:
        super().validate()
        if (rows := self.num_envs * self.rollout_length) > MOST_ROWS:
            raise UsageError(
                f"num_envs * rollout_length is {self.num_envs} * {self.rollout_length} = {rows}; allowed: below "
                f"{MOST_ROWS + 1:,} rows."
            )
        if self.normalize_advantage and rows == 1:
            raise UsageError(
                "normalize_advantage makes the advantage 0 in a rollout of one row, from which nothing is learned; "
                "take more num_envs or a longer rollout_length, or set normalize_advantage to False."
            )
        if self.is_recurrent and self.rollout_length == 1:
            raise UsageError(
                f"rollout_length is 1, so {self.remembering} never learns what to remember: gradients reach back to "
                "the beginning of a rollout; allowed: at least 2."
            )
        if self.sequence_length is not None:
            if not self.is_recurrent:
                raise UsageError("sequence_length is set, but neither network nor value_network remembers.")
            if self.rollout_length % self.sequence_length:
                raise UsageError(
                    f"sequence_length is {self.sequence_length}, which does not divide rollout_length = "
                    f"{self.rollout_length}."
                )
        for field, networks in (("memory_width", (*CELLS, "attention")), ("memory_window", ("attention",))):
            if getattr(self, field) is not None and not any(kind in networks for kind in self.given_networks.values()):
                raise UsageError(
                    f"{field} is set, but neither network nor value_network uses it; choose one of "
                    f"{', '.join(networks)}."
                )

    @property
    def sequence_steps(self) -> int:
        """The steps of the sequences that networks with a memory learn from."""
        return self.rollout_length if self.sequence_length is None else self.sequence_length

    def check_minibatches(self, num_minibatches: int) -> None:
        """Refuse a number of minibatches that does not divide the rows of a rollout.

        Raises:
            UsageError: naming the nearest numbers that are possible.
        """
        sequences = self.rollout_length // self.sequence_steps
        rows = self.num_envs * sequences
        what = f"num_envs = {self.num_envs}" if sequences == 1 else f"{rows}"
        what += f", the sequences that {self.remembering} learns from"
        if not self.is_recurrent:
            rows *= self.rollout_length
            what = f"num_envs * rollout_length = {self.num_envs} * {self.rollout_length} = {rows}"
        if rows % num_minibatches:
            small = [n for n in range(1, math.isqrt(rows) + 1) if rows % n == 0]
            divisors = {*small, *(rows // n for n in small)}
            nearest = sorted(sorted(divisors, key=lambda n: abs(n - num_minibatches))[:3])
            raise UsageError(
                f"num_minibatches is {num_minibatches}, which does not divide {what}; nearest that do: "
                f"{', '.join(str(n) for n in nearest)}."
            )


@hyperparameters
class ActorCriticAgent(RolloutAgent):
    """The hyper-parameters of agents that improve policy and value function in the same steps."""

    vf_coef: float = traced(0.5, "weight of the value error in the objective", "[0, inf)")
