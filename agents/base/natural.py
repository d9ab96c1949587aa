"""What NPG and TRPO share: the natural gradient of the policy, a bounded step, and the value function's own fit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.faults import first_fault
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.diagnostics import halves
from rlgd.ascent.trees import apply_step, global_norm
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested, static, traced
from rlgd.maths import minibatches, natural_gradient, objectives
from rlgd.maths.distributions import Distribution
from rlgd.maths.natural_gradient import Solution
from rlgd.pytrees import AgentState, Features, Metrics, Params, Rollout
from rlgd.spaces import Spec


@hyperparameters
class NaturalAgent(RolloutAgent):
    """The hyper-parameters of agents whose policy makes one step a rollout, measured by how far the policy moves."""

    ascent: Ascent = nested(Ascent("sgd", learning_rate=1.0, schedule="linear"))
    rollout_length: int = static(256, "steps of each environment in one iteration", "[1, inf)")
    value_learning_rate: float = traced(1e-3, "step size of Adam, which fits the value function", "[0, inf)")
    num_epochs: int = static(10, "passes of the value function over each rollout", "[1, inf)")
    num_minibatches: int = static(16, "equal parts of the rollout, one step of the value function each", "[1, inf)")
    measure_every: int = static(
        16, "log the ascent's angles, noise and step lengths in one iteration of so many; 0: never", "[0, inf)"
    )
    max_kl: float = traced(0.01, "how far a step may move the policy: mean KL(old || new) in nats", "(0, inf)")
    cg_iters: int = static(10, "steps of conjugate gradient towards the natural gradient", "[1, inf)")
    cg_damping: float = traced(0.1, "this times the identity is added to the Fisher matrix", "[0, inf)")
    backtrack_coeff: float = traced(0.8, "factor of a step that left the trust region, until it does not", "(0, 1)")
    max_backtracks: int = static(10, "how often a step is shortened before it is given up", "[0, inf)")

    def validate(self) -> None:
        super().validate()
        self.check_minibatches(self.num_minibatches)
        for name in ("outer_learning_rate", "outer_momentum"):
            if getattr(self.ascent.outer, name) is not None:
                raise UsageError(f"{name} is set, but an outer step would leave the trust region; leave it out.")
        if self.dropout is not None:
            raise UsageError(
                "dropout is set, but the KL under dropout is not that of the policy that acts; leave it out."
            )

    @property
    def value_ascent(self) -> Ascent:
        """How the value function climbs: by Adam, whatever the policy does."""
        return Ascent("adam", learning_rate=self.value_learning_rate)

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The plain gradient of the objective that ``update`` turns into a natural one; every ratio is 1."""
        rows = experience(self, spec, state, rollout)
        policy, _ = self._policy_gradient(spec, state.params.policy, rows, progress)
        return Params(policy, self._value_gradient(spec, state.params.value, rows)[0])

    def learn(
        self,
        spec: Spec,
        state: AgentState,
        rollout: Rollout,
        progress: Array,
        key: Array,
        scaled: Callable[[Solution], Any],
        least_gain: float,
    ) -> tuple[AgentState, Metrics]:
        """An ``update``: one step of the policy along its natural gradient, and the fit of the value function.

        What is measured of the ascent is measured of what it is given: of natural gradients, on halves of the rows.

        Args:
            spec, state, rollout, progress, key: as in ``update``.
            scaled: what of the natural gradient is handed to the ascent.
            least_gain: how much a step has to raise the objective by to be accepted.
        """
        rows = experience(self, spec, state, rollout)

        def climbed(rows: Experience) -> tuple[Any, Metrics]:
            gradient, metrics = self._policy_gradient(spec, state.params.policy, rows, progress)
            product = natural_gradient.fisher_product(
                self._policy(spec), state.params.policy, rows.features, rows.mask, self.cg_damping
            )
            solution = natural_gradient.conjugate_gradient(product, gradient, self.cg_iters)
            metrics |= {
                "ascent/gradient_norm": global_norm(gradient),
                "ascent/cg_damping": jnp.asarray(self.cg_damping),
                "ascent/cg_iterations": solution.iterations.astype(solution.residual.dtype),
                "ascent/cg_residual": solution.residual,
            }
            return scaled(solution), metrics

        measurements, measured = self.measure(state, progress, lambda: jax.vmap(climbed)(halves(rows))[0])
        direction, metrics = climbed(rows)
        policy, policy_opt_state, step_metrics = self._step(spec, state, rows, progress, direction, metrics, least_gain)
        metrics |= step_metrics
        value, value_opt_state, stacked = self._fit(spec, state, rows, key)
        metrics |= jax.tree.map(jnp.mean, stacked) | measurements | self.schedule_metrics(progress)
        faults = jax.vmap(lambda fit: first_fault(metrics | fit))(jax.tree.map(jnp.ravel, stacked))
        metrics["train/explained_variance"] = objectives.explained_variance(rows.value, rows.value_target, rows.mask)
        metrics["first_fault"] = faults
        params, opt_state = Params(policy, value), Params(policy_opt_state, value_opt_state)
        return self.conclude(spec, state, rollout, params, opt_state, measured, rows.value_memory), metrics

    def _policy(self, spec: Spec) -> natural_gradient.Policy:
        def policy(params: Any, features: Features) -> Distribution:
            return self.distribution(spec, params, features)

        return policy

    def _objective(
        self, spec: Spec, policy: Any, block: Experience, progress: Array, share: Array
    ) -> tuple[Array, Metrics]:
        distribution = self.distribution(spec, policy, block.features)
        log_prob, mask = distribution.log_prob(block.action), block.mask
        entropy = objectives.masked_mean(distribution.entropy(), mask)
        surrogate = objectives.surrogate(log_prob, block.log_prob, block.advantage, mask)
        total = share * (surrogate + self.entropy_weight(progress) * entropy)
        return total, {"train/objective": total, "train/entropy": share * entropy}

    def _policy_gradient(self, spec: Spec, policy: Any, rows: Experience, progress: Array) -> tuple[Any, Metrics]:
        def of_block(block: Experience, share: Array, number: Array) -> tuple[Any, Metrics]:
            return jax.grad(lambda policy: self._objective(spec, policy, block, progress, share), has_aux=True)(policy)

        return minibatches.weighted_sum(of_block, rows, rows.mask)

    def _step(
        self,
        spec: Spec,
        state: AgentState,
        rows: Experience,
        progress: Array,
        direction: Any,
        metrics: Metrics,
        least_gain: float,
    ) -> tuple[Any, Any, Metrics]:
        """The ascent's step along ``direction``, shortened until it lies in the trust region."""
        old, before = state.params.policy, metrics["train/objective"]
        # The moments are updated even where no step is accepted: they average directions, and this was one.
        step, opt_state = self.ascent.transformation().update(
            direction, state.opt_state.policy, old, progress, new_rollout=True
        )

        def measure(new: Any) -> tuple[Array, Array]:
            def of_block(block: Experience, share: Array, number: Array) -> Array:
                return self._objective(spec, new, block, progress, share)[0]

            kl = natural_gradient.mean_kl(self._policy(spec), old, new, rows.features, rows.mask)
            return kl, minibatches.weighted_sum(of_block, rows, rows.mask) - before

        search = natural_gradient.line_search(
            old, step, measure, self.max_kl, self.backtrack_coeff, self.max_backtracks, least_gain
        )
        length = global_norm(self.ascent.penalties.subtracted(direction, old))
        return (
            search.params,
            opt_state,
            {
                "train/objective": search.gain + 0 * before,  # not finite where the objective was not
                "train/kl": search.kl,
                "ascent/natural_gradient_norm": length,
                "ascent/clipped": (length > self.ascent.clipping.limit).astype(length.dtype),
                "ascent/backtracks": search.backtracks.astype(length.dtype),
                "ascent/accepted": search.accepted.astype(length.dtype),
            },
        )

    def _value_gradient(self, spec: Spec, value: Any, rows: Experience) -> tuple[Any, Array]:
        def negative_error(value: Any, block: Experience, share: Array) -> tuple[Array, Array]:
            error = share * objectives.value_error(
                self.value(spec, value, block.features), block.value_target, block.mask
            )
            return -error, error

        def of_block(block: Experience, share: Array, number: Array) -> tuple[Any, Array]:
            return jax.grad(negative_error, has_aux=True)(value, block, share)

        return minibatches.weighted_sum(of_block, rows, rows.mask)

    def _fit(self, spec: Spec, state: AgentState, rows: Experience, key: Array) -> tuple[Any, Any, Metrics]:
        """Value function and optimizer state after all passes, and metrics ``[num_epochs, num_minibatches]``."""
        ascent = self.value_ascent.transformation()

        def minibatch(carry: tuple[Any, Any], part: tuple[Array, Array]) -> tuple[tuple[Any, Any], Metrics]:
            value, opt_state = carry
            batch = jax.tree.map(lambda x: x[part[0]], rows)
            gradient, error = self._value_gradient(spec, value, batch)
            step, opt_state = ascent.update(gradient, opt_state, value)
            metrics = {"train/value_error": error, "ascent/value_gradient_norm": global_norm(gradient)}
            return (apply_step(value, step), opt_state), metrics

        carry, size = (state.params.value, state.opt_state.value), rows.advantage.shape[0]
        (value, opt_state), metrics = minibatches.epochs(
            minibatch, carry, key, size, self.num_epochs, self.num_minibatches
        )
        return value, opt_state, metrics
