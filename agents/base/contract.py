"""The contract of an agent: what the training loop, a run and a study rely on. ``rlgd.agents.check`` verifies it."""

from typing import Any, ClassVar, Protocol

from jax import Array

from rlgd.ascent.ascent import Ascent
from rlgd.models.action_heads import ActionHead
from rlgd.pytrees import Actor, AgentState, Metrics, Params, Rollout, View
from rlgd.spaces import Spec

# The metrics that every update returns, each a scalar. Other names begin with train/ or ascent/.
REQUIRED_METRICS = {
    "train/objective": "what the policy climbs, without penalties",
    "train/entropy": "mean entropy of the policy",
    "ascent/gradient_norm": "length of the policy's gradient, before it is clipped",
}
# One integer for each step of the update, of any shape: 0, or what of it is not finite; see rlgd.agents.base.faults.
FAULT_METRIC = "first_fault"


class AgentContract(Protocol):
    """A frozen dataclass of hyper-parameters, registered as a pytree by ``rlgd.hyperparameters.hyperparameters``.

    A hyper-parameter that enters arithmetic is ``traced``; one that decides a shape or a branch of the program is
    ``static``. Flat names are unique, also among nested classes. All methods but ``validate`` and ``prepared`` are pure
    functions of their arguments that JAX can compile and vectorize: no state, no attribute that is written, all random
    numbers from ``key``.

    The easiest way to fulfil it is a subclass of ``rlgd.agents.base.agent.Agent``, which leaves ``update``,
    ``gradient`` and ``passes`` to write; with a value function and rollouts of a fixed length, one of
    ``rlgd.agents.base.actor_critic.ActorCriticAgent``.

    Attributes:
        whole_episodes: whether a rollout is one whole episode of each environment. If not, the agent has a static field
            ``rollout_length`` too: steps of each environment in one iteration.
        num_envs: static, environments that are stepped side by side.
        gamma: traced, discount of future rewards.
        ascent: how the policy climbs; its fields give ``learning_rate`` and the other flat names.
        hidden_sizes: static, widths of the hidden layers.
        box_std: static, where the standard deviation of Box actions comes from.
        measure_every: static, iterations between two measurements of the ascent; 0 for never.
    """

    whole_episodes: ClassVar[bool]

    @property
    def num_envs(self) -> int:
        """Environments that are stepped side by side."""
        ...

    @property
    def gamma(self) -> Any:
        """Discount of future rewards."""
        ...

    @property
    def ascent(self) -> Ascent:
        """How the policy climbs."""
        ...

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        ...

    @property
    def box_std(self) -> str:
        """Where the standard deviation of Box actions comes from."""
        ...

    @property
    def measure_every(self) -> int:
        """Iterations between two measurements of the ascent; 0 for never."""
        ...

    @property
    def is_recurrent(self) -> bool:
        """Whether policy or value function remember, so that they learn from sequences."""
        ...

    @property
    def corrects_lag(self) -> bool:
        """Whether ``update`` weights the rows of a rollout that an older policy collected, see ``Rollout.actor``."""
        ...

    @property
    def reads_lives(self) -> bool:
        """Whether rollouts must say where lives were lost, see ``Rollout.without_future``."""
        ...

    def validate(self) -> None:
        """Check ranges and combinations on concrete values.

        Raises:
            UsageError: naming the field, what was given and what is allowed.
        """
        ...

    def prepared(self) -> Any:
        """A copy of the agent ready for tracing: defaults filled in, traced values as arrays of one type."""
        ...

    def num_weights(self, spec: Spec) -> tuple[int, ...]:
        """The weights of the policy and, unless it is on the policy's layers, of the value function."""
        ...

    def convolution_cost(self, spec: Spec) -> int:
        """How many multiplications the convolutions of both take for a row."""
        ...

    def passes(self) -> int:
        """How often an iteration passes through the rows of a rollout, acting included: at least 1."""
        ...

    def action_head(self, spec: Spec) -> ActionHead:
        """How the policy's outputs become actions; ``to_env`` makes what the environment receives.

        Raises:
            UsageError: if a hyper-parameter does not fit the actions.
        """
        ...

    def init(self, spec: Spec, key: Array) -> AgentState:
        """New parameters, optimizer state and normalizers: arrays only."""
        ...

    def memory(self, spec: Spec, num_envs: int) -> Any:
        """What the policy keeps between steps, before the first one: a pytree of ``[num_envs, ...]``; () if nothing."""
        ...

    def act(
        self, spec: Spec, actor: Actor, memory: Any, view: View, key: Array, greedy: bool = False
    ) -> tuple[Array, Any]:
        """An action for each environment, ``[N, ...]``, and the memory in the structure of ``memory``.

        The action is as sampled: unclipped, before tanh, counted from 0. If ``greedy``, the most probable one.
        """
        ...

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: learn from a rollout that ``state.actor`` collected, or ``rollout.actor``, if there is one.

        ``progress`` is the share of the run done, in [0, 1]. The new state has the structure, shapes and dtypes of
        ``state``. The metrics have the names of ``REQUIRED_METRICS`` and ``first_fault``. With ``learning_rate`` 0 no
        parameter changes.
        """
        ...

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The gradient estimate that the first step of ``update`` follows, on the whole rollout."""
        ...

    def half_gradients(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Any:
        """What the policy's first step is given, on two halves of its rows, ``[2, ...]``; ``[1, ...]`` without halves.

        Called only in iterations that are measured, beside ``update``.
        """
        ...
