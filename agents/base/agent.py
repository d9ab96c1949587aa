"""What every agent shares: its hyper-parameters, its networks, acting, and one step of ascent.

An agent is a subclass of ``Agent`` with an ``update``, the ``gradient`` that it begins with, and hyper-parameters of
its own; nothing else is overridden.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import hyperparameters as hp
from rlgd.agents.base.acting import Memory, for_network
from rlgd.ascent import diagnostics, schedules
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.trees import apply_step, global_norm
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested, static, traced
from rlgd.maths import running_statistics
from rlgd.maths.distributions import Distribution
from rlgd.models import action_heads, gaussian_std, initializers, networks, torsos
from rlgd.models.action_heads import ActionHead
from rlgd.models.features import encode, image_shapes, images, num_features
from rlgd.models.networks import Network
from rlgd.models.recurrent import Recurrence
from rlgd.models.torsos import NetworkOutput
from rlgd.pytrees import Actor, AgentState, Features, Metrics, Obs, Params, Rollout, View
from rlgd.spaces import Spec

GSDE_LOG_STD = -2.0  # in the beginning; the hidden units' squares add up
DEFAULT_SDE_SAMPLE_FREQ = 4
POLICY_OUTPUT_SCALE = 0.01  # the first policy is close to uniform (Andrychowicz et al. 2021, arXiv 2006.05990)


@hyperparameters
class Agent:
    """Hyper-parameters and methods that all agents share."""

    whole_episodes: ClassVar[bool] = False

    num_envs: int = static(8, "environments that are stepped side by side", "[1, inf)")
    gamma: float = traced(0.99, "discount of future rewards", "[0, 1]")
    ascent: Ascent = nested(Ascent())
    value_learning_rate: float | None = traced(None, "step size of the value function; None: the policy's", "[0, inf)")
    ent_coef: float = traced(0.0, "weight of the entropy in the objective", "[0, inf)")
    ent_coef_schedule: str = static("constant", "factor of ent_coef over the run, as for schedule")
    hidden_sizes: tuple[int, ...] = static((64, 64), "width of each hidden layer; none: a linear policy", "[1, inf)")
    activation: str = static("tanh", "between the layers", choices=tuple(torsos.ACTIVATIONS))
    initialization: str = static("orthogonal", "of the weights", choices=tuple(initializers.INITIALIZATIONS))
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
        None, "its logarithm in the beginning; None: 0, under gsde -2", "[-10, 2]", only_in_init=True
    )
    sde_sample_freq: int | None = static(None, "steps between gSDE's new noise, at most; None: 4", "[1, inf)")
    normalize_obs: bool = static(False, "shift and scale observations to mean 0 and variance 1")
    scale_reward: bool = static(False, "divide rewards by the standard deviation of the discounted return")
    measure_every: int = static(
        128, "log the ascent's angles, noise and step lengths in one iteration of so many; 0: never", "[0, inf)"
    )

    def validate(self) -> None:
        """Check ranges and combinations on concrete values.

        Raises:
            UsageError: naming the field, what was given and what is allowed.
        """
        hp.validate(self)
        self.ascent.validate()
        schedules.parse(self.ent_coef_schedule)
        if self.ent_coef_schedule != "constant" and np.all(np.asarray(self.ent_coef) == 0):
            raise UsageError(f"ent_coef_schedule {self.ent_coef_schedule!r} has no effect: ent_coef is 0.")
        if self.dropout is not None and not self.hidden_sizes:
            raise UsageError("dropout is set, but hidden_sizes is empty: there is no hidden layer to drop units of.")
        if self.box_std == "gsde" and not self.hidden_sizes:
            raise UsageError("box_std is 'gsde', but hidden_sizes is empty: there is no hidden layer to explore with.")
        if self.sde_sample_freq is not None and self.box_std != "gsde":
            raise UsageError(f"sde_sample_freq is set, but box_std is {self.box_std!r}; choose 'gsde'.")
        if self.log_std_init is not None and self.box_distribution == "beta":
            raise UsageError("log_std_init is set, but box_distribution is 'beta', which has no such parameter.")

    def prepared(self) -> "Agent":
        """A copy ready for tracing: optimizer defaults filled in, traced values as arrays of one type."""
        return hp.as_arrays(dataclasses.replace(self, ascent=self.ascent.resolved()))

    @property
    def recurrence(self) -> Recurrence | None:
        """The recurrent layer of policy and value function, if they have one."""
        return None

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

    def policy_network(self, spec: Spec) -> Network:
        """Features to the action head's outputs, with log standard deviations beside the network."""
        head = self.action_head(spec)
        network = self._network(spec, head.num_outputs, POLICY_OUTPUT_SCALE)
        shape = (*((self.hidden_sizes[-1],) if self.box_std == "gsde" else ()), head.num_log_stds)
        default = GSDE_LOG_STD if self.box_std == "gsde" else 0.0
        log_std = jnp.full(shape, default if self.log_std_init is None else self.log_std_init)
        beside = {"log_std": log_std} if head.num_log_stds else {}
        return Network(
            init=lambda key: {"network": network.init(key)} | beside,
            read=lambda params, features, key=None: network.read(params["network"], features, key),
        )

    def value_network(self, spec: Spec) -> Network:
        """Features to one number."""
        return self._network(spec, 1, 1.0)

    def _network(self, spec: Spec, outputs: int, scale: float) -> Network:
        return networks.network(
            num_features(spec.obs),
            outputs,
            self.hidden_sizes,
            self.activation,
            self.initialization,
            scale,
            self.dropout,
            image_shapes(spec.obs),
            self.recurrence,
        )

    def features(self, spec: Spec, obs_statistics: Any, obs: Obs, action_mask: Array | None = None) -> Features:
        """What the networks read of ``obs [..., *shape]``: numbers encoded and normalized, images as they are."""
        vector = running_statistics.normalize(obs_statistics, encode(spec.obs, obs))
        return Features(vector, images(spec.obs, obs), action_mask)

    def distribution(self, spec: Spec, policy: Any, features: Features, key: Array | None = None) -> Distribution:
        """The action distribution at features ``[..., ]``, among the actions allowed; with a key, under dropout."""
        return self._decide(spec, policy, features, key)[0]

    def _decide(
        self, spec: Spec, policy: Any, features: Features, key: Array | None
    ) -> tuple[Distribution, NetworkOutput]:
        read = self.policy_network(spec).read(policy, for_network(features, "policy"), key)
        log_std = policy.get("log_std")
        return self.action_head(spec).distribution(read.outputs, log_std, features.action_mask, read.hidden), read

    def value(self, spec: Spec, params: Any, features: Features, key: Array | None = None) -> Array:
        """The value function at features ``[..., ]``, ``[...]``; with a key, under dropout."""
        return self.read_value(spec, params, features, key).outputs[..., 0]

    def read_value(self, spec: Spec, params: Any, features: Features, key: Array | None = None) -> NetworkOutput:
        """The value function's output, with what it remembers."""
        return self.value_network(spec).read(params, for_network(features, "value"), key)

    def dropout_keys(self, key: Array, number: Array | int) -> tuple[Array | None, Array | None]:
        """Keys for policy and value function in the block ``number`` of a batch; None without dropout."""
        if self.dropout is None:
            return None, None
        policy_key, value_key = jax.random.split(jax.random.fold_in(key, number))
        return policy_key, value_key

    def entropy_weight(self, progress: Array) -> Array:
        """``ent_coef`` as it is applied, at a share ``progress`` of the run."""
        return schedules.applied(self.ent_coef, self.ent_coef_schedule, progress)

    def init(self, spec: Spec, key: Array) -> AgentState:
        """Fresh parameters, optimizer state and normalizers: arrays only."""
        policy_key, value_key = jax.random.split(key)
        params = Params(self.policy_network(spec).init(policy_key), self.value_network(spec).init(value_key))
        outer = self.ascent.outer_ascent()
        return AgentState(
            params=params,
            opt_state=_opt_state(self.ascent, self.value_ascent, params),
            outer_opt_state=None if outer is None else _opt_state(outer, outer, params),
            obs_statistics=running_statistics.empty((num_features(spec.obs),)) if self.normalize_obs else None,
            reward_statistics=running_statistics.empty_reward_scale(self.num_envs) if self.scale_reward else None,
            measured=diagnostics.begin(params.policy) if self.measure_every else None,
            value_memory=self._blank_memory(self.num_envs),
        )

    def _blank_memory(self, num_envs: int) -> Array | None:
        return None if self.recurrence is None else jnp.zeros((num_envs, self.recurrence.memory_size))

    @property
    def value_ascent(self) -> Ascent:
        """How the value function climbs: as the policy does, but for its step size."""
        if self.value_learning_rate is None:
            return self.ascent
        return hp.with_values(self.ascent, {"learning_rate": self.value_learning_rate})

    def memory(self, spec: Spec, num_envs: int) -> Any:
        """What the policy remembers between steps, before the first one: a ``Memory``, or () if nothing."""
        hidden, noise, age = self._blank_memory(num_envs), None, None
        if self.box_std == "gsde":
            noise = jnp.zeros((num_envs, self.hidden_sizes[-1], self.action_head(spec).num_log_stds))
            age = jnp.zeros(num_envs, jnp.int32)
        return () if hidden is None and noise is None else Memory(hidden, noise, age)

    def act(
        self, spec: Spec, actor: Actor, memory: Any, view: View, key: Array, greedy: bool = False
    ) -> tuple[Array, Any]:
        """Choose an action in each environment, sampled or, if ``greedy``, the most probable one.

        Returns:
            ``(action [N, ...], memory)``; the action is as sampled: unclipped, before tanh, counted from 0.
        """
        features = self.features(spec, actor.obs_statistics, view.obs, view.action_mask)
        if self.recurrence is not None:
            features = features._replace(first=view.first, memory=Params(memory.hidden, None))
        policy, read = self._decide(spec, actor.policy, features, None)
        if memory != ():
            memory = memory._replace(hidden=read.memory)
        if greedy:
            return policy.mode(), memory
        if self.box_std != "gsde":
            return policy.sample(key), memory
        memory = self._fresh_noise(memory, jnp.asarray(view.first), key)
        return policy.mode() + gaussian_std.exploration(actor.policy["log_std"], read.hidden, memory.noise), memory

    def _fresh_noise(self, memory: "Memory", first: Array, key: Array) -> "Memory":
        """New noise where an episode begins, and where the present one is old."""
        every = DEFAULT_SDE_SAMPLE_FREQ if self.sde_sample_freq is None else self.sde_sample_freq
        fresh = first | (memory.age == 0) | (memory.age >= every)
        drawn = jax.random.normal(key, memory.noise.shape, memory.noise.dtype)
        noise = jnp.where(fresh[:, None, None], drawn, memory.noise)
        return memory._replace(noise=noise, age=jnp.where(fresh, 1, memory.age + 1))

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: learn from a rollout. Each agent's own.

        Args:
            spec: the environment.
            state: as ``init`` or ``update`` returned it.
            rollout: collected with ``state.actor``.
            progress: share of the run done, in [0, 1]; schedules are functions of it.
            key: for shuffling.
        """
        raise NotImplementedError

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate of the gradient that the first step on a rollout follows, on the whole of it. Each agent's own.

        The arguments are those of ``update``. The gradient is that of the objective with its entropy bonus, before
        penalties, clipping and the optimizer.
        """
        raise NotImplementedError

    def ascend(
        self, params: Params, opt_state: Params, gradient: Params, progress: Array, new_rollout: bool | Array = True
    ) -> tuple[Params, Params, Metrics]:
        """One step uphill for policy and value function, each with its own optimizer state, clipping and step size.

        ``new_rollout``: this is the first step since a rollout was collected.
        """
        value_ascent = self.value_ascent
        policy, policy_opt_state = _step(
            self.ascent, gradient.policy, opt_state.policy, params.policy, progress, new_rollout
        )
        value, value_opt_state = _step(
            value_ascent, gradient.value, opt_state.value, params.value, progress, new_rollout
        )
        norm = global_norm(self.ascent.penalties.subtracted(gradient.policy, params.policy))
        metrics = {
            "ascent/gradient_norm": norm,
            "ascent/value_gradient_norm": global_norm(value_ascent.penalties.subtracted(gradient.value, params.value)),
            "ascent/clipped": (norm > self.ascent.clipping.limit).astype(norm.dtype),
        }
        return Params(policy, value), Params(policy_opt_state, value_opt_state), metrics

    def measure(self, state: AgentState, progress: Array, gradients: Callable[[], Any]) -> tuple[Metrics, Any]:
        """The diagnostics of the first step that follows, and what they keep; see ``diagnostics.measure``.

        ``gradients`` computes the policy's gradients on ``diagnostics.halves`` of the batch, stacked.
        """
        if not self.measure_every:
            return {}, None
        return diagnostics.measure(
            self.ascent,
            state.opt_state.policy,
            state.params.policy,
            progress,
            gradients,
            state.measured,
            self.measure_every,
        )

    def schedule_metrics(self, progress: Array) -> Metrics:
        """Step size, momentum and entropy weight as they are applied."""
        return {
            "ascent/learning_rate": self.ascent.step_size(progress),
            "ascent/momentum": self.ascent.momentum_at(progress),
            "ascent/effective_step": self.ascent.effective_step(progress),
            "train/ent_coef": self.entropy_weight(progress),
        }

    def conclude(
        self,
        spec: Spec,
        state: AgentState,
        rollout: Rollout,
        params: Params,
        opt_state: Params,
        measured: Any,
        value_memory: Array | None = None,
    ) -> AgentState:
        """The end of an update: the outer step from ``state`` towards ``params``, if there is one, and the normalizers.

        They take the rollout in only now: the one that acted is the one that learned. ``value_memory`` is that behind
        the rollout.
        """
        obs_statistics, reward_statistics = state.obs_statistics, state.reward_statistics
        if obs_statistics is not None:
            mask = None if rollout.mask is None else rollout.mask.reshape(-1)
            rows = encode(spec.obs, rollout.obs).reshape(-1, num_features(spec.obs))
            obs_statistics = running_statistics.merge(obs_statistics, running_statistics.of_batch(rows, mask))
        if reward_statistics is not None:
            reward_statistics = running_statistics.observe_reward(
                reward_statistics, rollout.reward, rollout.done, self.gamma, rollout.mask
            )
        params, outer_opt_state = self._outer_step(state, params)
        return AgentState(params, opt_state, outer_opt_state, obs_statistics, reward_statistics, measured, value_memory)

    def _outer_step(self, state: AgentState, params: Params) -> tuple[Params, Params | None]:
        outer = self.ascent.outer_ascent()
        if outer is None or state.outer_opt_state is None:
            return params, None

        def step(start: Any, end: Any, opt_state: Any) -> tuple[Any, Any]:
            return _step(outer, jax.tree.map(jnp.subtract, end, start), opt_state, start, jnp.zeros(()), False)

        policy, policy_opt_state = step(state.params.policy, params.policy, state.outer_opt_state.policy)
        value, value_opt_state = step(state.params.value, params.value, state.outer_opt_state.value)
        return Params(policy, value), Params(policy_opt_state, value_opt_state)


def _opt_state(ascent: Ascent, value_ascent: Ascent, params: Params) -> Params:
    return Params(ascent.transformation().init(params.policy), value_ascent.transformation().init(params.value))


def _step(
    ascent: Ascent, gradient: Any, opt_state: Any, params: Any, progress: Array, new_rollout: bool | Array
) -> tuple[Any, Any]:
    step, opt_state = ascent.transformation().update(gradient, opt_state, params, progress, new_rollout=new_rollout)
    return apply_step(params, step), opt_state
