"""What every agent shares: its hyper-parameters, its networks, and acting.

A new agent is a subclass of ``Agent`` with hyper-parameters of its own, an ``update``, the ``gradient`` that the update
begins with, and ``passes``. ``rlgd.agents.base.learning`` has the functions that an update is composed of, and
``rlgd.agents.check`` says what is missing. Beside these three an agent redefines ``validate``, ``half_gradients``,
``memory_layer`` or ``value_ascent`` at most.
"""

import abc
import dataclasses
import itertools
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import hyperparameters as hp
from rlgd import ranges
from rlgd.agents.base import exploration
from rlgd.agents.base.acting import Networks, features_of
from rlgd.ascent import schedules
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.outer import Outer
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested, static, traced
from rlgd.maths import running_statistics
from rlgd.maths.distributions import Distribution
from rlgd.models import action_heads, initializers, own, torsos
from rlgd.models.action_heads import ActionHead
from rlgd.models.attention import Attention
from rlgd.models.features import image_shapes, num_features, places, privileged
from rlgd.models.networks import COMPUTE_DTYPES, Network, memory_layer, network, only
from rlgd.models.recurrent import Recurrence
from rlgd.pytrees import Actor, AgentState, Features, Metrics, Obs, Params, Rollout, View
from rlgd.spaces import Spec

POLICY_OUTPUT_SCALE = 0.01  # the first policy is close to uniform (Andrychowicz et al. 2021, arXiv 2006.05990)


@hyperparameters
class Agent(abc.ABC):
    """Hyper-parameters and methods that all agents share."""

    whole_episodes: ClassVar[bool] = False

    num_envs: int = static(8, "environments that are stepped side by side", "[1, inf)")
    gamma: float = traced(0.99, "discount of future rewards", "[0, 1]")
    ascent: Ascent = nested(Ascent())
    value_learning_rate: float | None = traced(None, "step size of the value function; None: the policy's", "[0, inf)")
    ent_coef: float = traced(0.0, "weight of the entropy in the objective", "[0, inf)")
    ent_coef_schedule: str = static("constant", "factor of ent_coef over the run, as for schedule")
    network: Any = static(
        "mlp",
        "the layers before the outputs, of policy and value function each; module:name for your own",
        kind=own.NETWORK,
        implies=own.implied,
    )
    value_network: Any = static(
        None,
        "the layers of the value function; None: as network, but its own; policy: the policy's, which both then shape",
        kind=own.VALUE_NETWORK,
    )
    critic_obs: tuple[str, ...] = static(
        (), "parts of a Dict observation that the value function alone reads; none: those named privileged..."
    )
    hidden_sizes: tuple[int, ...] = static((64, 64), "width of each hidden layer; none: a linear policy", "[1, inf)")
    activation: str = static("tanh", "between the layers", choices=tuple(torsos.ACTIVATIONS))
    initialization: str = static("orthogonal", "of the weights", choices=tuple(initializers.INITIALIZATIONS))
    compute_dtype: str = static(
        "float32",
        "of the networks' arithmetic; parameters, gradients and optimizer stay float32",
        choices=COMPUTE_DTYPES,
    )
    dropout: float | None = traced(
        None, "share of each hidden layer's units that is dropped while learning, never while acting", "[0, 1)"
    )
    box_distribution: str = static(
        "gaussian",
        "of Box actions: Gaussian and clipped to the bounds, squashed into them by tanh, or Beta between them",
        choices=action_heads.BOX_DISTRIBUTIONS,
    )
    box_std: str = static(
        "free",
        "where the Gaussians' standard deviation comes from: parameters, the network's outputs, or gSDE",
        choices=action_heads.BOX_STDS,
    )
    log_std_init: float | None = traced(
        None, "initial log standard deviation of Box actions; None: 0, or -2 with gsde", "[-10, 2]", only_in_init=True
    )
    sde_sample_freq: int | None = static(
        None, "gSDE draws new noise after at most this many steps; None: 4", "[1, inf)"
    )
    normalize_obs: bool = static(False, "shift and scale observations to mean 0 and variance 1")
    scale_reward: bool = static(False, "divide rewards by the standard deviation of the discounted return")
    clip_reward: bool = static(False, "learn from the sign of each reward; returns are reported as they are paid")
    measure_every: int = static(
        512, "log the ascent's angles, noise and step lengths once in this many iterations; 0: never", "[0, inf)"
    )

    def validate(self) -> None:
        """Check ranges and combinations on concrete values.

        Raises:
            UsageError: naming the field, what was given and what is allowed.
        """
        ranges.validate(self)
        self.ascent.validate()
        schedules.parse(self.ent_coef_schedule)
        if self.ent_coef_schedule != "constant" and np.all(np.asarray(self.ent_coef) == 0):
            raise UsageError(f"ent_coef_schedule {self.ent_coef_schedule!r} has no effect: ent_coef is 0.")
        if self.clip_reward and self.scale_reward:
            raise UsageError("clip_reward and scale_reward are both set; each replaces the size of rewards: take one.")
        if self.dropout is not None and not self.hidden_sizes:
            raise UsageError("dropout is set, but hidden_sizes is empty: there is no hidden layer to drop units of.")
        if self.critic_obs and self.value_network == own.SHARED:
            raise UsageError("critic_obs is set, but value_network is 'policy', whose layers do not read these parts.")
        own.check_sizes(self.given_networks, self.hidden_sizes)
        exploration.validate(self.box_std, self.hidden_sizes, self.sde_sample_freq)
        if self.log_std_init is not None and self.box_distribution == "beta":
            raise UsageError("log_std_init is set, but box_distribution is 'beta', which has no such parameter.")
        if (climbers := self.climbers) is not None:
            if self.num_envs % climbers:
                raise UsageError(f"num_envs is {self.num_envs}, which {climbers} climbers do not divide.")
            try:
                self.climber().validate()
            except UsageError as error:
                raise UsageError(f"each of {climbers} climbers has rows of its own: {error}") from error

    def prepared(self) -> "Agent":
        """A copy ready for tracing: optimizer defaults filled in, traced values as arrays of one type."""
        return hp.as_arrays(dataclasses.replace(self, ascent=self.ascent.resolved()))

    @property
    def climbers(self) -> int | None:
        """How many groups of environments climb alone; None if all climb together."""
        outer = self.ascent.outer
        return None if outer.sync_every is None else outer.climbers or 1

    def climber(self) -> "Agent":
        """The agent of one of the groups that climb alone."""
        assert self.climbers is not None
        ascent = dataclasses.replace(self.ascent, outer=Outer())
        return dataclasses.replace(self, num_envs=self.num_envs // self.climbers, ascent=ascent)

    def num_weights(self, spec: Spec) -> tuple[int, ...]:
        """The weights of the policy and, unless it is on the policy's layers, of the value function; outputs apart.

        What a row costs and what they take follow from it. Convolutions are left out: see ``convolution_cost``.
        """
        return tuple(self._weights(spec, reader) for reader in self._readers(spec))

    def convolution_cost(self, spec: Spec) -> int:
        """How many multiplications the convolutions of policy and value function take for a row."""
        shapes, readers = image_shapes(spec.obs), self._readers(spec)
        return sum(torsos.convolution_cost(shapes[i], of.kind) for of in readers for i in of.images)

    def _weights(self, spec: Spec, reader: "_Reader") -> int:
        kind, total, inputs = own.resolved(reader.kind), 0, len(reader.columns)
        if kind == "flat":
            inputs += sum(math.prod(image_shapes(spec.obs)[i]) for i in reader.images)
        if isinstance(kind, own.Torso):
            shapes = jax.eval_shape(self._network(spec, reader, 1, 1.0).init, jax.random.key(0))
            return sum(leaf.size for leaf in jax.tree.leaves(shapes))
        if (layer := self.memory_layer(kind)) is not None:
            total, inputs = layer.cost(inputs), layer.width
        widths = (inputs, *self.hidden_sizes, 1)
        total += sum(before * after for before, after in itertools.pairwise(widths))
        return total + sum(8 * size**2 for size in self.hidden_sizes if kind == "simba")

    @property
    def given_networks(self) -> dict[str, Any]:
        """The networks by the names of their fields; the value function's only if it has layers of another kind."""
        given = {"network": self.network, "value_network": self.value_network}
        return {field: kind for field, kind in given.items() if kind not in (None, own.SHARED)}

    @property
    def remembering(self) -> str | None:
        """The first of its networks that remembers, as messages name it; None if none does."""
        for field, kind in self.given_networks.items():
            resolved = own.resolved(kind)
            layer = resolved if isinstance(resolved, own.Torso) else self.memory_layer(resolved)
            if layer is not None and layer.memory_size is not None:
                return f"{field} {own.shown(kind)}"
        return None

    @property
    def is_recurrent(self) -> bool:
        """Whether policy or value function remember, so that they learn from sequences."""
        return self.remembering is not None

    def memory_layer(self, kind: str) -> Recurrence | Attention | None:
        """The layer that remembers in one of ``NETWORKS``; None if it has none."""
        return memory_layer(kind)

    def action_head(self, spec: Spec) -> ActionHead:
        """How the policy's outputs become actions.

        Raises:
            UsageError: if what is set does not fit the actions.
        """
        head = action_heads.action_head(spec.action, self.box_distribution, self.box_std)
        if self.log_std_init is not None and not head.num_log_stds:
            kind = type(spec.action).__name__.removesuffix("Spec")
            raise UsageError(f"log_std_init is set, but the actions are {kind}; it is for Box actions.")
        return head

    def networks(self, spec: Spec) -> Networks:
        """Policy and value function in an environment.

        Raises:
            UsageError: if a hyper-parameter does not fit the actions.
        """
        head, readers = self.action_head(spec), self._readers(spec)
        return Networks(
            spec=spec,
            head=head,
            policy=self._network(spec, readers[0], head.num_outputs, POLICY_OUTPUT_SCALE),
            value=self._network(spec, readers[-1], 1, 1.0),
            exploration=exploration.make_exploration(
                self.box_std, self.hidden_sizes, head.num_log_stds, self.sde_sample_freq
            ),
            log_std_init=self.log_std_init,
            alike=self.value_network is None and not self.critic_parts(spec),
            shared=self.value_network == own.SHARED,
        )

    def critic_parts(self, spec: Spec) -> tuple[str, ...]:
        """The parts of the observations that the policy does not read."""
        return self.critic_obs or privileged(spec.obs)

    def _readers(self, spec: Spec) -> "tuple[_Reader, ...]":
        """The policy's network and, unless it is on the policy's layers, the value function's."""
        policy = _Reader(self.network, *places(spec.obs, self.critic_parts(spec)))
        if self.value_network == own.SHARED:
            return (policy,)
        return policy, _Reader(self.given_networks.get("value_network", self.network), *places(spec.obs))

    def _network(self, spec: Spec, reader: "_Reader", outputs: int, scale: float) -> Network:
        resolved, shapes = own.resolved(reader.kind), image_shapes(spec.obs)
        made = network(
            len(reader.columns),
            outputs,
            self.hidden_sizes,
            self.activation,
            self.initialization,
            scale,
            self.dropout,
            tuple(shapes[i] for i in reader.images),
            resolved,
            self.memory_layer(resolved) if isinstance(resolved, str) else None,
            self.compute_dtype,
        )
        return made if reader[1:] == places(spec.obs) else only(made, reader.columns, reader.images)

    @property
    def reads_lives(self) -> bool:
        """Whether it learns as if episodes ended with each life that is lost."""
        return False

    def training_reward(self, state: AgentState, rollout: Rollout) -> Array:
        """The rewards that are learned from, ``[T, N]``: as they are, scaled, or their signs."""
        if self.clip_reward:
            return jnp.sign(rollout.reward)
        return running_statistics.scale_reward(state.reward_statistics, rollout.reward)

    def features(self, spec: Spec, obs_statistics: Any, obs: Obs, action_mask: Array | None = None) -> Features:
        """What the networks read of ``obs [..., *shape]``: numbers encoded and normalized, images as they are."""
        return features_of(spec, obs_statistics, obs, action_mask)

    def distribution(self, spec: Spec, policy: Any, features: Features, key: Array | None = None) -> Distribution:
        """The action distribution at features ``[...]``, among the actions allowed; with a key, under dropout."""
        return self.networks(spec).distribution(policy, features, key)

    def value(self, spec: Spec, params: Params, features: Features, key: Array | None = None) -> Array:
        """The value function at features ``[...]``, of the same shape; with a key, under dropout."""
        return self.networks(spec).read_value(params, features, key).outputs[..., 0]

    def entropy_weight(self, progress: Array) -> Array:
        """``ent_coef`` as it is applied when the share ``progress`` of the run is done."""
        return schedules.applied(self.ent_coef, self.ent_coef_schedule, progress)

    @property
    def corrects_lag(self) -> bool:
        """Whether ``update`` weights the rows of a rollout that an older policy collected, see ``Rollout.actor``."""
        return False

    @property
    def value_ascent(self) -> Ascent:
        """The ascent of the value function: the policy's, with a step size of its own if ``value_learning_rate`` is
        set.
        """
        if self.value_learning_rate is None:
            return self.ascent
        return hp.with_values(self.ascent, {"learning_rate": self.value_learning_rate})

    def init(self, spec: Spec, key: Array) -> AgentState:
        """New parameters, optimizer state and normalizers: arrays only."""
        model = self.networks(spec)
        params, outer, control = model.init(key), self.ascent.outer_ascent(), self.ascent.control
        return AgentState(
            params=params,
            opt_state=opt_state(self.ascent, self.value_ascent, params),
            outer_opt_state=None if outer is None else opt_state(outer, outer, params),
            obs_statistics=running_statistics.empty((num_features(spec.obs),)) if self.normalize_obs else None,
            reward_statistics=running_statistics.empty_reward_scale(self.num_envs) if self.scale_reward else None,
            measured=jax.tree.map(jnp.zeros_like, params.policy) if self.measure_every else None,
            value_memory=model.value.blank_memory(self.num_envs),
            control=control.init(self.ascent.resolved().rule, params.policy) if control.is_on else None,
        )

    def memory(self, spec: Spec, num_envs: int) -> Any:
        """What the policy keeps between steps, before the first one: a ``Memory``, or () if nothing."""
        return self.networks(spec).memory(num_envs)

    def act(
        self, spec: Spec, actor: Actor, memory: Any, view: View, key: Array, greedy: bool = False
    ) -> tuple[Array, Any]:
        """Choose an action in each environment: a sample or, if ``greedy``, the most probable one.

        Returns:
            ``(action [N, ...], memory)``; the action is as sampled: unclipped, before tanh, counted from 0.
        """
        return self.networks(spec).act(actor, memory, view, key, greedy)

    @abc.abstractmethod
    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: learn from a rollout.

        Args:
            spec: the environment.
            state: as ``init`` or ``update`` returned it.
            rollout: collected with ``state.actor``.
            progress: share of the run done, in [0, 1]; schedules are functions of it.
            key: for all random numbers of the update.

        Returns:
            The next state, and the metrics that ``contract`` lists.
        """

    @abc.abstractmethod
    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The gradient estimate that the first step of ``update`` follows, on the whole rollout.

        The arguments are those of ``update``. It is the gradient of the objective with its entropy bonus, before
        penalties, clipping and the optimizer.
        """

    def half_gradients(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Any:
        """What the diagnostics of the ascent measure: what the policy's step is given, on two halves of its rows.

        The arguments are those of ``update``. ``[2, ...]`` like the policy's parameters, or ``[1, ...]`` where there
        are no halves; then the noise is not measured. An agent that does not redefine it is measured by its
        ``gradient``.
        """
        return jax.tree.map(lambda x: x[None], self.gradient(spec, state, rollout, progress, key).policy)

    @abc.abstractmethod
    def passes(self) -> int:
        """How often an iteration passes through the rows of a rollout, acting included; lengths of chunks follow it."""


class _Reader(NamedTuple):
    """A network, by name or as a part of the user, and which numbers and images it reads."""

    kind: Any
    columns: tuple[int, ...]
    images: tuple[int, ...]


def opt_state(ascent: Ascent, value_ascent: Ascent, params: Params) -> Params:
    """The state of two optimizers, of policy and value function, before their first step."""
    return Params(ascent.transformation().init(params.policy), value_ascent.transformation().init(params.value))
