"""How an action is chosen from the policy's distribution: the most probable one, by independent noise, or by gSDE.

Each way is a small class, which ``make_exploration`` makes from the hyper-parameters.
"""

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.memory import Memory
from rlgd.errors import UsageError
from rlgd.maths.distributions import Distribution
from rlgd.models import gaussian_std
from rlgd.models.torsos import NetworkOutput
from rlgd.pytrees import Scalar

GSDE = "gsde"  # the value of box_std
GSDE_LOG_STD = -2.0  # the initial value: the squares of all hidden units add up
DEFAULT_SDE_SAMPLE_FREQ = 4


class Decision(NamedTuple):
    """What a policy says about one batch of observations.

    Attributes:
        policy: the distribution of actions.
        output: what the network returned.
        log_std: the log standard deviations among the policy's parameters; None without any.
    """

    policy: Distribution
    output: NetworkOutput
    log_std: Array | None


class ActionChoice(Protocol):
    """A way to choose an action."""

    def choose(
        self, decision: Decision, memory: Memory | None, first: Array, key: Array
    ) -> tuple[Array, Memory | None]:
        """One action for each environment.

        Args:
            decision: of the policy, at ``[N, ...]`` observations.
            memory: what the policy keeps; None if nothing.
            first: ``[N]`` bool, where an episode begins.
            key: for the random numbers of this step.

        Returns:
            ``(action [N, ...], memory)``; the action is as sampled: unclipped, before tanh, counted from 0.
        """
        ...


class Exploration(ActionChoice, Protocol):
    """A way to sample actions while training."""

    def initial_log_std(self, value: Scalar | None) -> Array:
        """The log standard deviations among the policy's parameters; ``value`` None: the default."""
        ...

    def begin(self, num_envs: int) -> Memory | None:
        """The noise that is kept, before the first step; None if nothing is."""
        ...


@dataclasses.dataclass(frozen=True)
class Greedy:
    """The most probable action. It keeps noise as it is."""

    def choose(
        self, decision: Decision, memory: Memory | None, first: Array, key: Array
    ) -> tuple[Array, Memory | None]:
        return decision.policy.mode(), memory


@dataclasses.dataclass(frozen=True)
class IndependentNoise:
    """A sample of the distribution in each step, independent of all others.

    Attributes:
        num_log_stds: how many log standard deviations are parameters, one for each number of an action; 0 for none.
    """

    num_log_stds: int

    def initial_log_std(self, value: Scalar | None) -> Array:
        return _filled((self.num_log_stds,), 0.0 if value is None else value)

    def begin(self, num_envs: int) -> Memory | None:
        return None

    def choose(
        self, decision: Decision, memory: Memory | None, first: Array, key: Array
    ) -> tuple[Array, Memory | None]:
        return decision.policy.sample(key), memory


@dataclasses.dataclass(frozen=True)
class StateDependentNoise:
    """gSDE (Raffin, Kober & Stulp 2021, arXiv 2005.05719): noise that is a linear function of the last hidden layer.

    The function is kept for some steps, so that exploration is smooth; each of them sees another hidden layer.

    Attributes:
        width: units of the last hidden layer.
        num_log_stds: numbers of an action, d. The log standard deviations are ``[width, d]``.
        sample_freq: steps after which a new function is drawn, at most; a new episode always has a new one.
    """

    width: int
    num_log_stds: int
    sample_freq: int = DEFAULT_SDE_SAMPLE_FREQ

    def initial_log_std(self, value: Scalar | None) -> Array:
        return _filled((self.width, self.num_log_stds), GSDE_LOG_STD if value is None else value)

    def begin(self, num_envs: int) -> Memory | None:
        noise = jnp.zeros((num_envs, self.width, self.num_log_stds))
        return Memory(hidden=None, noise=noise, age=jnp.zeros(num_envs, jnp.int32))

    def choose(
        self, decision: Decision, memory: Memory | None, first: Array, key: Array
    ) -> tuple[Array, Memory | None]:
        assert memory is not None
        memory = self._refreshed(memory, first, key)
        assert decision.log_std is not None
        deviation = gaussian_std.gsde_deviation(decision.log_std, decision.output.hidden, memory.noise)
        return decision.policy.mode() + deviation, memory

    def _refreshed(self, memory: Memory, first: Array, key: Array) -> Memory:
        """New noise where an episode begins, and where the present noise was used ``sample_freq`` times."""
        fresh = first | (memory.age == 0) | (memory.age >= self.sample_freq)
        drawn = jax.random.normal(key, memory.noise.shape, memory.noise.dtype)
        noise = jnp.where(fresh[:, None, None], drawn, memory.noise)
        return memory._replace(noise=noise, age=jnp.where(fresh, 1, memory.age + 1))


def _filled(shape: tuple[int, ...], value: Scalar) -> Array:
    """Of JAX's float type: of a weak type, the program that trains would be compiled a second time."""
    return jnp.full(shape, value, jax.dtypes.canonicalize_dtype(float))


def make_exploration(
    box_std: str, hidden_sizes: tuple[int, ...], num_log_stds: int, sde_sample_freq: int | None
) -> Exploration:
    """How an agent with these hyper-parameters samples actions."""
    if box_std != GSDE:
        return IndependentNoise(num_log_stds)
    sample_freq = DEFAULT_SDE_SAMPLE_FREQ if sde_sample_freq is None else sde_sample_freq
    return StateDependentNoise(hidden_sizes[-1], num_log_stds, sample_freq)


def validate(box_std: str, hidden_sizes: tuple[int, ...], sde_sample_freq: int | None) -> None:
    """Refuse hyper-parameters that do not fit together.

    Raises:
        UsageError: naming the field, what was given and what is allowed.
    """
    if box_std == GSDE and not hidden_sizes:
        raise UsageError("box_std is 'gsde', but hidden_sizes is empty: there is no hidden layer to explore with.")
    if sde_sample_freq is not None and box_std != GSDE:
        raise UsageError(f"sde_sample_freq is set, but box_std is {box_std!r}; choose 'gsde'.")
