"""What NPG and TRPO share: the natural gradient of the policy, a bounded step, and the fit of the value function."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.faults import first_fault
from rlgd.agents.base.gradients import Gradient, policy_and_value_gradient, policy_objective
from rlgd.agents.base.learning import applied_schedules, conclude, is_clipped, step
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.diagnostics import halves
from rlgd.ascent.joined import form
from rlgd.ascent.trees import global_norm
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested, static, traced
from rlgd.maths import blocks, natural_gradient, objectives
from rlgd.maths.distributions import Distribution
from rlgd.maths.minibatches import epochs
from rlgd.maths.natural_gradient import Solution
from rlgd.models.own import SHARED
from rlgd.pytrees import AgentState, Features, Metrics, Params, Rollout
from rlgd.spaces import Spec


@hyperparameters
class NaturalAgent(RolloutAgent):
    """Agents that move the policy by one bounded step in each rollout.

    A step is accepted only if it raises the objective by more than ``least_gain``.
    """

    least_gain: ClassVar[float]

    ascent: Ascent = nested(Ascent("sgd", learning_rate=1.0, schedule="linear"))
    rollout_length: int = static(256, "steps of each environment in one iteration", "[1, inf)")
    value_learning_rate: float = traced(1e-3, "step size of Adam, which fits the value function", "[0, inf)")
    num_epochs: int = static(10, "passes of the value function over each rollout", "[1, inf)")
    num_minibatches: int = static(16, "equal parts of the rollout, one step of the value function each", "[1, inf)")
    measure_every: int = static(
        16, "log the ascent's angles, noise and step lengths once in this many iterations; 0: never", "[0, inf)"
    )
    max_kl: float = traced(0.01, "how far a step may move the policy: mean KL(old || new) in nats", "(0, inf)")
    cg_iters: int = static(10, "steps of conjugate gradient towards the natural gradient", "[1, inf)")
    cg_damping: float = traced(0.1, "this times the identity is added to the Fisher matrix", "[0, inf)")
    backtrack_coeff: float = traced(0.8, "factor that shortens a step until it stays in the trust region", "(0, 1)")
    max_backtracks: int = static(10, "how often a step is shortened before it is rejected", "[0, inf)")

    def validate(self) -> None:
        super().validate()
        self.check_minibatches(self.num_minibatches)
        for name in ("outer_learning_rate", "outer_momentum"):
            if getattr(self.ascent.outer, name) is not None:
                raise UsageError(f"{name} is set, but an outer step would leave the trust region; leave it out.")
        if self.ascent.fisher:
            raise UsageError(
                f"the optimizer is {self.ascent.rule.optimizer}, but the natural gradient is divided by the Fisher "
                "matrix already; choose another one."
            )
        if self.ascent.control.is_on:
            raise UsageError("max_kl bounds each step already; leave learning_rate_control and the like out.")
        if self.ascent.accumulates:
            raise UsageError("max_kl bounds a step with all rows of a rollout; leave gradient_accumulation_steps out.")
        if self.value_network == SHARED:
            raise UsageError("value_network is 'policy', but the value function is fitted alone here; leave it out.")
        if self.dropout is not None:
            raise UsageError(
                "dropout is set, but the KL under dropout is not that of the policy that acts; leave it out."
            )

    @property
    def value_ascent(self) -> Ascent:
        """The ascent of the value function: always Adam."""
        return Ascent("adam", learning_rate=self.value_learning_rate)

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The plain gradient of the objective that ``update`` turns into a natural one; every ratio is 1."""
        rows = experience(self, spec, state, rollout)
        return policy_and_value_gradient(self, spec, progress, surrogate)(state.params, rows)[0]

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: one step of the policy along its natural gradient, and the fit of the value function."""
        rows = experience(self, spec, state, rollout)
        direction, metrics = _natural_gradients(self, spec, state, progress)(rows)
        before = metrics["train/objective"] + self.entropy_weight(progress) * metrics["train/entropy"]
        policy, policy_opt_state, search_metrics = _bounded_step(self, spec, state, rows, progress, direction, before)
        gradient_of = policy_and_value_gradient(self, spec, progress, surrogate)
        value, value_opt_state, stacked = _fit_value(self, state, rows, gradient_of, key)
        metrics |= search_metrics
        faults = jax.vmap(lambda fit: first_fault(metrics | fit))(jax.tree.map(jnp.ravel, stacked))
        metrics |= jax.tree.map(jnp.mean, stacked) | applied_schedules(self, progress)
        metrics |= {"train/explained_variance": rows.explained_variance(), "first_fault": faults}
        params, opt_state = Params(policy, value), Params(policy_opt_state, value_opt_state)
        return conclude(self, spec, state, rollout, params, opt_state, rows.value_memory), metrics

    @abc.abstractmethod
    def direction(self, solution: Solution) -> Any:
        """What the ascent is given as the policy's gradient, made of the natural gradient."""

    def half_gradients(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Any:
        """What the ascent would be given, on every other row."""
        rows, direction_of = experience(self, spec, state, rollout), _natural_gradients(self, spec, state, progress)
        return jax.vmap(direction_of)(halves(rows))[0]

    def passes(self) -> int:
        """Acting, one for each step of conjugate gradient, and those of the value function."""
        return 1 + self.num_epochs + self.cg_iters


def surrogate(policy: Distribution, rows: Experience) -> tuple[Array, Metrics]:
    """The objective of NPG and TRPO: mean(rho * A)."""
    return objectives.surrogate(policy.log_prob(rows.action), rows.log_prob, rows.advantage, rows.mask), {}


def _natural_gradients(
    agent: NaturalAgent, spec: Spec, state: AgentState, progress: Array
) -> Callable[[Experience], tuple[Any, Metrics]]:
    """The function from rows to what the ascent is given, with its metrics."""
    gradient_of = policy_and_value_gradient(agent, spec, progress, surrogate)

    def direction_of(rows: Experience) -> tuple[Any, Metrics]:
        solution, metrics = _natural_gradient(agent, spec, state.params.policy, rows, gradient_of)
        return agent.direction(solution), metrics

    return direction_of


def _policy(agent: NaturalAgent, spec: Spec) -> natural_gradient.PolicyFunction:
    def policy(params: Any, features: Features) -> Distribution:
        return agent.distribution(spec, params, features)

    return policy


def _natural_gradient(
    agent: NaturalAgent, spec: Spec, policy: Any, rows: Experience, gradient_of: Gradient
) -> tuple[Solution, Metrics]:
    """Solve (F + cg_damping I) x = g: g is the gradient of the objective, F the Fisher matrix of the policy."""
    gradient, metrics = gradient_of(Params(policy, None), rows)
    product = natural_gradient.fisher_product(_policy(agent, spec), policy, rows.features, rows.mask, agent.cg_damping)
    solution = natural_gradient.conjugate_gradient(product, gradient.policy, agent.cg_iters)
    return solution, metrics | {
        "ascent/gradient_norm": global_norm(gradient.policy),
        "ascent/cg_damping": jnp.asarray(agent.cg_damping),
        "ascent/cg_iterations": solution.iterations.astype(solution.residual.dtype),
        "ascent/cg_residual": solution.residual,
    }


def _bounded_step(
    agent: NaturalAgent,
    spec: Spec,
    state: AgentState,
    rows: Experience,
    progress: Array,
    direction: Any,
    before: Array,
) -> tuple[Any, Any, Metrics]:
    """The ascent's step along ``direction``, shortened until it lies in the trust region.

    ``before`` is the objective, with its entropy bonus, at the policy that acted.
    """
    ascent, old = agent.ascent, state.params.policy
    # The moments are updated even where no step is accepted: they average directions, and this was one.
    whole, opt_state = ascent.transformation().update(
        direction, state.opt_state.policy, old, progress, new_rollout=True
    )
    objective = policy_objective(agent, spec, progress, surrogate)

    def measured(new: Any) -> tuple[Array, Array]:
        def of_block(block: Experience, share: Array, number: Array) -> Array:
            return share * objective(new, block, None)[0]

        kl = natural_gradient.mean_kl(_policy(agent, spec), old, new, rows.features, rows.mask)
        return kl, blocks.weighted_sum(of_block, rows, rows.mask) - before

    search = natural_gradient.line_search(
        old, whole, measured, agent.max_kl, agent.backtrack_coeff, agent.max_backtracks, agent.least_gain
    )
    length = global_norm(ascent.penalties.subtracted(direction, old))
    metrics = {
        "train/objective": search.gain + 0 * before,  # not finite where the objective was not
        "train/kl": search.kl,
        "ascent/natural_gradient_norm": length,
        "ascent/clipped": is_clipped(ascent, length),
        "ascent/backtracks": search.backtracks.astype(length.dtype),
        "ascent/accepted": search.accepted.astype(length.dtype),
    }
    return search.params, opt_state, metrics


def _fit_value(
    agent: NaturalAgent, state: AgentState, rows: Experience, gradient_of: Gradient, key: Array
) -> tuple[Any, Any, Metrics]:
    """Value function and optimizer state after all passes, and metrics ``[num_epochs, num_minibatches]``."""
    kept = form(agent.value_ascent, state.params.value)

    def climb(carry: tuple[Any, Any], batch: Experience, number: Array) -> tuple[tuple[Any, Any], Metrics]:
        value, opt_state = carry
        gradient, metrics = gradient_of(Params(None, kept.split(value)), batch)
        direction = kept.join(gradient.value)
        metrics = metrics | {"ascent/value_gradient_norm": global_norm(direction)}
        return step(agent.value_ascent, direction, opt_state, value), metrics

    carry = kept.join(state.params.value), kept.join_state(state.opt_state.value)
    (value, opt_state), metrics = epochs(
        climb, carry, rows, agent.num_envs, key, agent.num_epochs, agent.num_minibatches
    )
    return kept.split(value), kept.split_state(opt_state), metrics
