"""Feedback: step size, momentum and batch that follow what is measured while the parameters climb.

A law reads one number of each iteration and moves a factor. The factor of the learning rate and the momentum are part
of the agent's state, so a resumed run goes on with them, and members of a study have their own.

    kl         f <- f clip(sqrt(TARGET / KL), 1 / 1.5, 1.5);  KL(old, new) over the rollout, after its updates
    noise      f = S / (S + N), averaged;  S = a.b and N = abs(a - b)^2 / 4 for gradients a, b on two halves of the rows
    alignment  f <- f exp(RATE c);  c: the cosine of a fresh gradient and the last iteration's displacement
    storm      f = q^(1/3), and 1 - m <- (1 - m_0) q^(2/3) for the momentum m;  q = abs(g_1)^2 / sum of abs(g)^2
    noise of the batch      N / S gradients are averaged before a step, from 1 to MOST_GRADIENTS; the law above then
                            divides N by their number
    alignment of momentum m:  1 - m <- (1 - m) exp(-RATE c);  c: of a fresh gradient and the first moment

kl: a step's KL grows with the square of its length, so the root meets the target where that holds; rsl_rl and Brax
multiply or divide by 1.5 outside [TARGET / 2, 2 TARGET]. noise: McCandlish et al. 2018, arXiv 1812.06162, eq. 2.7:
the best step is 1 / (1 + N / S) of the best one without noise, and at N / S times the batch, the noise scale, a step
still gains half of what it would without noise. alignment: the derivative of the objective with respect
to a factor of the last step is gradient times displacement (Almeida et al. 1998; Baydin et al. 2018, arXiv 1703.04782,
in its multiplicative, normalized form), and that with respect to the momentum of v <- m v + g is gradient times v. The
gradient is that of a new rollout, whose noise the past steps do not share.

storm: the adaptive step and momentum of STORM (Cutkosky & Orabona 2019, arXiv 1905.10018) and IS-MBPG (Huang et al.
2020, arXiv 2007.06680, algorithm 1), k / (w + sum of abs(g)^2)^(1/3) and 1 - m = c times the square of that step, with
k, w and c such that the first iteration has the learning rate and momentum of the rule. It belongs to
``variance_reduction="storm"``: only what is carried along may be remembered ever longer. Where an optimizer adds
gradients up, f is divided by (1 - m_0) / (1 - m), so that the effective step is the paper's.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.ascent.own import OPTIMIZER
from rlgd.ascent.rule import Rule
from rlgd.ascent.trees import cosine, global_norm
from rlgd.errors import UsageError, shown, unknown
from rlgd.hyperparameters import hyperparameters, static
from rlgd.pytrees import Metrics, Scalar, pytree

LEARNING_RATE_LAWS = {"kl": 0.01, "noise": None, "alignment": 0.1, "storm": None}  # with the defaults of their numbers
MOMENTUM_LAWS = {"alignment": 0.1}
BATCH_LAWS = {"noise": None}
OFF = "off"
FASTEST = math.log(1.5)  # of the step size in one iteration, as a logarithm
WIDEST = math.log(1000.0)  # how far the step size goes from where it began, as a logarithm
MOST_MOMENTUM = 0.999
LEAST_SIGNAL = 0.01
MOST_GRADIENTS = 64.0
REMEMBERED = 0.95  # share of the averages of signal and noise that the next iteration keeps


class Law(NamedTuple):
    """What moves a number, parsed: ``name`` of the law, or "off", and its number."""

    name: str
    number: float = 0.0


def _without_schedule(text: str) -> Mapping[str, Any]:
    """A target for the KL needs no schedule: it would only be undone. Storm's step fades out by itself."""
    return {"schedule": "constant"} if isinstance(text, str) and text.startswith(("kl", "storm")) else {}


@hyperparameters
class Control:
    """What drives learning rate and momentum while a run climbs; ``rlgd.ascent.control`` has the laws.

    ``learning_rate`` and ``momentum`` are where they begin. A driven momentum leaves the learning rate alone: where an
    optimizer adds gradients up, it lengthens the effective step, as its derivative takes it to.
    """

    learning_rate_control: str = static(
        OFF,
        "what drives the step size: off, kl:TARGET (0.01), noise, alignment:RATE (0.1), or storm",
        implies=_without_schedule,
    )
    momentum_control: str = static(OFF, "what drives the momentum: off, or alignment:RATE (0.1)")
    batch_control: str = static(OFF, "what drives the number of gradients whose mean makes one step: off, or noise")

    @property
    def step(self) -> Law:
        """The law of the learning rate.

        Raises:
            UsageError: if it is not one; so does ``momentum``.
        """
        return _parsed("learning_rate_control", self.learning_rate_control, LEARNING_RATE_LAWS)

    @property
    def momentum(self) -> Law:
        """The law of the momentum."""
        return _parsed("momentum_control", self.momentum_control, MOMENTUM_LAWS)

    @property
    def drives_batch(self) -> bool:
        """Whether the number of gradients of a step is driven.

        Raises:
            UsageError: if it is not a law.
        """
        return _parsed("batch_control", self.batch_control, BATCH_LAWS).name != OFF

    @property
    def reads_noise(self) -> bool:
        """Whether gradients on two halves of the rows are needed."""
        return self.step.name == "noise" or self.drives_batch

    @property
    def reads_gradient(self) -> bool:
        """Whether the gradient of each rollout is needed before its update."""
        return self.step.name in ("alignment", "storm") or self.momentum.name == "alignment"

    @property
    def is_on(self) -> bool:
        """Whether anything is driven."""
        return self.step.name != OFF or self.momentum.name != OFF or self.drives_batch

    def init(self, rule: Rule, policy: Any) -> "ControlState":
        """The state before the first iteration, at the policy's parameters. The rule must be resolved."""
        zero = jnp.zeros(())
        drives_momentum = self.momentum.name != OFF or self.step.name == "storm"
        return ControlState(
            log_factor=zero,
            momentum=jnp.asarray(rule.momentum, zero.dtype) if drives_momentum else None,
            averages=(zero, zero, jnp.ones(())) if self.reads_noise else None,
            gradients=jnp.ones(()) if self.drives_batch else None,
            before=jax.tree.map(jnp.copy, policy) if self.step.name == "alignment" else None,
            squares=(zero, zero) if self.step.name == "storm" else None,
        )

    def applied(self, rule: Rule, state: "ControlState") -> Rule:
        """The rule as the state has it. It must be resolved."""
        driven: dict[str, Any] = {"learning_rate": rule.learning_rate * jnp.exp(state.log_factor)}
        if state.momentum is not None:
            driven["momentum"] = state.momentum
        return dataclasses.replace(rule, **driven)

    def after_kl(self, state: "ControlState", kl: Array) -> tuple["ControlState", Metrics]:
        """The state after an iteration that moved the policy by ``kl`` nats, a scalar."""
        change = 0.5 * jnp.log(self.step.number / jnp.maximum(kl, jnp.finfo(kl.dtype).tiny))
        change = jnp.where(jnp.isfinite(kl), jnp.clip(change, -FASTEST, FASTEST), 0)
        return dataclasses.replace(state, log_factor=_within(state.log_factor + change)), {"control/kl": kl}

    def after_halves(self, state: "ControlState", halves: Any) -> tuple["ControlState", Metrics]:
        """The state that knows of the gradients on two halves of the rows, stacked ``[2, ...]``.

        It begins as if there were no noise, and forgets that as measurements come in.
        """
        assert state.averages is not None
        if jax.tree.leaves(halves)[0].shape[0] != 2:
            raise UsageError(
                "the noise of the gradient is measured on two halves of the rows, and there are none; "
                "take at least 2 num_envs, and an agent with half_gradients."
            )
        total, difference = (
            global_norm(jax.tree.map(f, halves)) for f in (lambda x: x[0] + x[1], lambda x: x[0] - x[1])
        )
        measured = (total**2 - difference**2) / 4, difference**2 / 4
        *old, began = state.averages
        signal, noise = (REMEMBERED * x + (1 - REMEMBERED) * new for x, new in zip(old, measured, strict=True))
        began = REMEMBERED * began
        power = signal + noise
        share = jnp.clip(signal / jnp.where(power > 0, power, 1), LEAST_SIGNAL, 1)
        noise_to_signal = 1 / (began + (1 - began) * share) - 1
        state = dataclasses.replace(state, averages=(signal, noise, began))
        if state.gradients is not None:
            gradients = jnp.clip(noise_to_signal, 1, MOST_GRADIENTS)
            state = dataclasses.replace(state, gradients=gradients)
            noise_to_signal /= gradients
        if self.step.name == "noise":
            state = dataclasses.replace(state, log_factor=-jnp.log1p(noise_to_signal))
        return state, {"control/signal_share": share}

    def after_norm(self, state: "ControlState", rule: Rule, gradient: Any) -> tuple["ControlState", Metrics]:
        """The state that knows the length of a rollout's gradient; the rule is that of the first iteration."""
        assert state.squares is not None
        norm = global_norm(gradient)
        first, total = state.squares
        first = jnp.where(total > 0, first, norm**2)
        total = total + norm**2
        # A first gradient that is 0 tells nothing.
        log_factor = jnp.log(jnp.where(total > 0, first / jnp.where(total > 0, total, 1), 1)) / 3
        first_rest = 1 - jnp.asarray(rule.momentum, norm.dtype)
        rest = jnp.maximum(first_rest * jnp.exp(2 * log_factor), 1 - MOST_MOMENTUM)
        if rule.row.sums_gradients:
            log_factor = log_factor + jnp.log(rest / first_rest)
        state = dataclasses.replace(state, squares=(first, total), log_factor=_within(log_factor), momentum=1 - rest)
        return state, {"control/gradient_norm": norm}

    def after_gradient(
        self, state: "ControlState", gradient: Any, moment: Any, policy: Any
    ) -> tuple["ControlState", Metrics]:
        """The state that knows of a fresh gradient.

        Args:
            state: before the iteration.
            gradient: of the objective at ``policy``, from a new rollout.
            moment: the optimizer's first moment; None where the momentum is not driven.
            policy: the parameters.
        """
        metrics: Metrics = {}
        if state.before is not None:
            cos = cosine(gradient, jax.tree.map(jnp.subtract, policy, state.before))
            log_factor = _within(state.log_factor + self.step.number * cos)
            state = dataclasses.replace(state, log_factor=log_factor, before=policy)
            metrics["control/step_alignment"] = cos
        if self.momentum.name != OFF:
            assert state.momentum is not None
            cos = cosine(gradient, moment)
            rest = (1 - state.momentum) * jnp.exp(-self.momentum.number * cos)
            state = dataclasses.replace(state, momentum=jnp.clip(1 - rest, 0, MOST_MOMENTUM))
            metrics["control/momentum_alignment"] = cos
        return state, metrics

    def check(self, rule: Rule, schedule: str, momentum_schedule: str, rollout_moments: str) -> None:
        """Refuse what is no law, and what two things would drive.

        Raises:
            UsageError: what was given, what is allowed.
        """
        if self.step.name == "kl" and schedule != "constant":
            raise UsageError(
                f"learning_rate_control {self.learning_rate_control!r} would undo schedule {schedule!r}; leave one out."
            )
        if self.step.name == "storm":
            self._check_storm(rule, momentum_schedule)
        if self.momentum.name == OFF:
            return
        given = f"momentum_control {self.momentum_control!r}"
        if not rule.row.sums_gradients:
            name = OPTIMIZER.name(rule.optimizer)
            raise UsageError(f"{given} is for optimizers whose momentum adds gradients up; {name} does not.")
        if momentum_schedule != "constant":
            raise UsageError(f"{given} and momentum_schedule {momentum_schedule!r} both drive it; leave one out.")
        if rollout_moments == "reset":
            raise UsageError(f"{given} compares the first moment, which rollout_moments 'reset' does not keep.")

    def _check_storm(self, rule: Rule, momentum_schedule: str) -> None:
        given, momentum = "learning_rate_control 'storm'", rule.resolved().momentum
        if momentum is None or not rule.row.schedules_momentum or np.any(np.asarray(momentum) == 0):
            name = OPTIMIZER.name(rule.optimizer)
            raise UsageError(f"{given} drives the momentum too, and {name} has none here that may change.")
        if self.momentum.name != OFF or momentum_schedule != "constant":
            raise UsageError(f"{given} drives the momentum too; leave momentum_control and momentum_schedule out.")

    def check_batch(self, given: Scalar | None) -> None:
        """Refuse what does not go with several gradients a step; ``given`` is their number, None if it is not given.

        Raises:
            UsageError: what was given, what is allowed.
        """
        if self.drives_batch and given is not None:
            raise UsageError(
                f"batch_control {self.batch_control!r} and gradient_accumulation_steps both say how many gradients "
                "make one step; leave one out."
            )
        if self.step.name == "kl" and (self.drives_batch or given is not None):
            raise UsageError(
                f"learning_rate_control {self.learning_rate_control!r} is for iterations that all move the policy, "
                "which is not so where several gradients make one step; leave one out."
            )


@pytree
@dataclasses.dataclass(frozen=True)
class ControlState:
    """What the laws have found so far. Arrays only; an unused part is None.

    Attributes:
        log_factor: of the learning rate, a scalar.
        momentum: as it is driven, a scalar.
        averages: of signal and noise, and the share of them that is from before the run.
        gradients: whose mean makes a step, a scalar.
        squares: of the first gradient's length, and their sum over all iterations.
        before: the policy's parameters before the last iteration.
    """

    log_factor: Array
    momentum: Array | None = None
    averages: tuple[Array, Array, Array] | None = None
    before: Any = None
    gradients: Array | None = None
    squares: tuple[Array, Array] | None = None

    def metrics(self) -> Metrics:
        """What the laws drive."""
        factor = {"control/learning_rate_factor": jnp.exp(self.log_factor)}
        others = {"control/momentum": self.momentum, "control/gradients": self.gradients}
        return factor | {name: value for name, value in others.items() if value is not None}


def _within(log_factor: Array) -> Array:
    return jnp.clip(log_factor, -WIDEST, WIDEST)


def _parsed(field: str, text: str, laws: Mapping[str, Scalar | None]) -> Law:
    name, colon, number = text.partition(":")
    if name == OFF and not colon:
        return Law(OFF)
    if name not in laws:
        raise unknown(field, name, [OFF, *laws])
    default = laws[name]
    if default is None and colon:
        raise UsageError(f"{field} is {text!r}; {name} takes no number.")
    if not colon:
        return Law(name, 0.0 if default is None else float(default))
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise UsageError(f"{field} has the number {shown(number)}; allowed: in (0, 1), such as {name}:{default}.")
    return Law(name, value)
