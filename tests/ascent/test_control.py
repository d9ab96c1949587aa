"""The laws that drive step size and momentum: against their formulas, and on quadratics whose best step is known."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.ascent import Ascent, Control, Rule, apply_step
from rlgd.ascent.control import FASTEST, MOST_GRADIENTS, MOST_MOMENTUM, REMEMBERED, WIDEST, ControlState
from rlgd.errors import UsageError
from rlgd.hyperparameters import with_values

RULE = Rule("momentum", 0.1, 0.5).resolved()
HEAVY = {"momentum_control": "alignment", "optimizer": "momentum"}
POLICY = {"w": jnp.array([1.0, -2.0]), "b": jnp.zeros(3)}


def moved(control: Control, kl: float, state: ControlState) -> float:
    return float(control.after_kl(state, jnp.float32(kl))[0].log_factor)


def test_the_kl_law_meets_its_target_where_kl_grows_with_the_square_of_the_step() -> None:
    control = Control(learning_rate_control="kl:0.02")
    state = control.init(RULE, POLICY)
    for _ in range(20):
        kl = 0.5 * jnp.exp(state.log_factor) ** 2  # five times too long at first
        state, metrics = control.after_kl(state, kl)
    assert float(metrics["control/kl"]) == pytest.approx(0.02, rel=1e-5)
    assert float(control.applied(RULE, state).learning_rate) == pytest.approx(0.1 / 5, rel=1e-5)


def test_the_kl_law_is_bounded() -> None:
    control = Control(learning_rate_control="kl")
    state = control.init(RULE, POLICY)
    assert moved(control, 0.01, state) == pytest.approx(0, abs=1e-6)
    assert moved(control, 0.0121, state) == pytest.approx(math.log(1 / 1.1), rel=1e-4)
    assert moved(control, 0.0, state) == pytest.approx(FASTEST)
    assert moved(control, 1e9, state) == pytest.approx(-FASTEST)
    assert moved(control, math.nan, state) == 0  # which ends the run, but not the state
    far = dataclasses.replace(state, log_factor=jnp.float32(WIDEST))
    assert moved(control, 0.0, far) == pytest.approx(WIDEST)


@pytest.mark.slow
def test_the_batch_follows_the_noise_scale() -> None:
    control = Control(learning_rate_control="noise", batch_control="noise")
    state, rng = control.init(RULE, POLICY), np.random.default_rng(0)
    assert state.gradients == 1
    for _ in range(
        400
    ):  # |signal|^2 = 1, and the noise of the mean of both halves has 5 * 16 / 2 / 5 = 8 times as much
        a, b = (1 / math.sqrt(5) + 4 / math.sqrt(5) * rng.normal(size=5).astype(np.float32) for _ in range(2))
        state, _ = control.after_halves(state, {"w": jnp.array([a[:2], b[:2]]), "b": jnp.array([a[2:], b[2:]])})
    assert state.averages is not None
    assert state.gradients is not None
    signal, noise, _ = map(float, state.averages)
    assert float(state.gradients) == pytest.approx(min(noise / signal, MOST_GRADIENTS), rel=1e-3)
    assert 2 < float(state.gradients) < 32
    assert float(jnp.exp(state.log_factor)) == pytest.approx(0.5, rel=1e-3)  # noise and signal are equal now
    assert state.metrics().keys() == {"control/learning_rate_factor", "control/gradients"}
    alone = Control(batch_control="noise")
    assert float(alone.init(RULE, POLICY).log_factor) == 0


def test_the_noise_law_is_the_share_of_the_signal() -> None:
    control = Control(learning_rate_control="noise")
    state, rng = control.init(RULE, POLICY), np.random.default_rng(0)
    signal = noise = 0.0
    for n in range(1, 41):
        a, b = (3 + rng.normal(size=5).astype(np.float32) for _ in range(2))
        halves = {"w": jnp.array([a[:2], b[:2]]), "b": jnp.array([a[2:], b[2:]])}
        state, metrics = control.after_halves(state, halves)
        signal = REMEMBERED * signal + (1 - REMEMBERED) * float(a @ b)
        noise = REMEMBERED * noise + (1 - REMEMBERED) * float((a - b) @ (a - b)) / 4
        share = signal / (signal + noise)
        assert float(metrics["control/signal_share"]) == pytest.approx(share, rel=1e-4)
        expected = REMEMBERED**n + (1 - REMEMBERED**n) * share
        assert float(jnp.exp(state.log_factor)) == pytest.approx(expected, rel=1e-4)
    assert share == pytest.approx(
        45 / (45 + 2.5), rel=0.02
    )  # 5 numbers with mean 3; the mean of a, b has variance 1 / 2
    with pytest.raises(UsageError, match="at least 2 num_envs"):
        control.after_halves(state, {"w": jnp.ones((1, 2))})


def test_where_gradients_are_zero_the_noise_law_stays_finite() -> None:
    control = Control(learning_rate_control="noise")
    state, metrics = control.after_halves(
        control.init(RULE, POLICY), jax.tree.map(lambda x: jnp.zeros((2, *x.shape)), POLICY)
    )
    assert np.all(np.isfinite([state.log_factor, *metrics.values()]))


def climb(ascent: Ascent, curvature: list[float], steps: int) -> tuple[np.ndarray, dict[str, float]]:
    """Ascent of -x C x / 2 from ones: the objective after each step, and what drives it at the end."""
    ascent, curve, control = ascent.resolved(), jnp.array(curvature), ascent.control

    def one(carry: tuple[Any, Any, ControlState], _: None) -> tuple[tuple[Any, Any, ControlState], Any]:
        x, opt_state, driven = carry
        gradient = -curve * x
        driven = control.after_gradient(driven, gradient, ascent.first_moment(opt_state), x)[0]
        now = dataclasses.replace(ascent, rule=control.applied(ascent.rule, driven))
        change, opt_state = now.transformation().update(gradient, opt_state, x)
        return (apply_step(x, change), opt_state, driven), (-0.5 * jnp.sum(curve * x**2), driven.metrics())

    start = jnp.ones(len(curvature))
    carry = start, ascent.transformation().init(start), control.init(ascent.rule, start)
    _, (objective, metrics) = jax.jit(lambda carry: jax.lax.scan(one, carry, None, steps))(carry)
    return np.asarray(objective), {name: float(values[-1]) for name, values in metrics.items()}


@pytest.mark.parametrize("learning_rate", [1e-3, 1.9])
def test_the_alignment_law_finds_a_step_on_either_side_of_the_best_one(learning_rate: float) -> None:
    plain, _ = climb(Ascent("sgd", learning_rate), [1.0, 0.5], 60)
    driven, metrics = climb(Ascent("sgd", learning_rate, learning_rate_control="alignment:0.5"), [1.0, 0.5], 60)
    assert driven[-1] > 1e-3 * plain[-1]  # both below 0
    assert 0.2 < learning_rate * metrics["control/learning_rate_factor"] < 1.8


def test_momentum_rises_where_the_past_points_uphill_and_falls_where_it_overshoots() -> None:
    flat = Ascent("momentum", 1e-3, 0.5)
    plain, _ = climb(flat, [1.0, 0.01], 100)
    driven, rising = climb(with_values(flat, {"momentum_control": "alignment:0.2"}), [1.0, 0.01], 100)
    assert rising["control/momentum"] > 0.9
    assert driven[-1] > 0.6 * plain[-1]  # both below 0
    overshooting = Ascent("momentum", 1.0, 0.9)
    plain, _ = climb(overshooting, [1.0, 1.0], 30)
    driven, falling = climb(with_values(overshooting, {"momentum_control": "alignment:0.2"}), [1.0, 1.0], 30)
    assert falling["control/momentum"] < 0.6
    assert driven[-1] > 1e-2 * plain[-1]  # both below 0


def test_a_driven_momentum_has_bounds() -> None:
    for sign, bound in {1: MOST_MOMENTUM, -1: 0}.items():
        control = Control(momentum_control="alignment:0.9")
        state = control.init(RULE, POLICY)
        gradient = jax.tree.map(jnp.ones_like, POLICY)
        moment = jax.tree.map(lambda x, sign=sign: sign * x, gradient)
        for _ in range(20):
            state, _ = control.after_gradient(state, gradient, moment, POLICY)
        assert state.momentum is not None
        assert float(state.momentum) == pytest.approx(bound)
        assert float(control.applied(RULE, state).momentum or 0.0) == pytest.approx(bound)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"learning_rate_control": "kll"}, "unknown learning_rate_control 'kll'"),
        ({"learning_rate_control": "off:1"}, "unknown learning_rate_control"),
        ({"learning_rate_control": "kl:0"}, r"allowed: in \(0, 1\), such as kl:0.01"),
        ({"learning_rate_control": "kl:"}, "has the number ''"),
        ({"learning_rate_control": "kl:nan"}, "has the number 'nan'"),
        ({"learning_rate_control": "noise:0.1"}, "noise takes no number"),
        ({"learning_rate_control": "kl", "schedule": "linear"}, "would undo schedule 'linear'"),
        ({"learning_rate_control": "noise", "sync_every": 2.0}, "a federated ascent"),
        ({"momentum_control": "kl"}, "unknown momentum_control 'kl'"),
        ({"learning_rate_control": 0.01}, "learning_rate_control is 0.01; allowed: text"),
        ({"momentum_control": "alignment", "optimizer": "sgd"}, "sgd does not"),
        ({"momentum_control": "alignment", "optimizer": "adam"}, "adds gradients up; adam does not"),
        (HEAVY | {"momentum_schedule": "linear:0.5"}, "both drive it"),
        ({"learning_rate_control": "storm:0.1"}, "storm takes no number"),
        ({"learning_rate_control": "storm", "optimizer": "sgd"}, "sgd has none here"),
        ({"learning_rate_control": "storm", "optimizer": "momentum", "momentum": 0.0}, "momentum has none here"),
        (HEAVY | {"learning_rate_control": "storm"}, "leave momentum_control and momentum_schedule out"),
        ({"learning_rate_control": "storm", "momentum_schedule": "linear:0.5"}, "leave momentum_control"),
        (HEAVY | {"rollout_moments": "reset"}, "which rollout_moments 'reset' does not keep"),
    ],
)
def test_what_is_no_law_or_has_two_drivers_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Ascent(**fields).validate()


def test_a_target_for_the_kl_takes_the_schedule_away_unless_it_is_given() -> None:
    assert Ascent(schedule="linear").schedules.schedule == "linear"
    assert with_values(Ascent(schedule="linear"), {"learning_rate_control": "kl:0.02"}).schedules.schedule == "constant"
    assert Ascent(learning_rate_control="noise").schedules.schedule == Ascent().schedules.schedule


@pytest.mark.parametrize("optimizer", ["momentum", "signum"])
def test_the_storm_law_is_the_papers_step_and_momentum(optimizer: str) -> None:
    """With k, w and c of IS-MBPG's algorithm 1 that give the first iteration what the rule says."""
    rule = Rule(optimizer, 0.1, 0.8).resolved()
    control = Control(learning_rate_control="storm")
    state, total = control.init(rule, POLICY), 0.0
    k, c = 0.1 * 6.0 ** (2 / 3), 0.2 / 0.1**2
    for t, norm in enumerate([6.0, 1.0, 0.0, 3.0, 8.0]):
        gradient = {"w": jnp.array([0.0, norm]), "b": jnp.zeros(3)}
        state, metrics = control.after_norm(state, rule, gradient)
        total += norm**2
        step = k / total ** (1 / 3)
        applied = control.applied(rule, state)
        assert float(metrics["control/gradient_norm"]) == norm
        assert float(applied.momentum or 0.0) == pytest.approx(1 - c * step**2, rel=1e-5)
        effective = step if optimizer == "signum" else step * (c * step**2) / 0.2
        assert float(applied.learning_rate) == pytest.approx(effective, rel=1e-5), t
    assert state.metrics().keys() == {"control/learning_rate_factor", "control/momentum"}


def test_without_a_gradient_the_storm_law_changes_nothing() -> None:
    control = Control(learning_rate_control="storm")
    state = control.init(RULE, POLICY)
    for _ in range(2):
        state, _ = control.after_norm(state, RULE, jax.tree.map(jnp.zeros_like, POLICY))
        applied = control.applied(RULE, state)
        assert float(applied.learning_rate) == pytest.approx(0.1)
        assert float(applied.momentum or 0.0) == pytest.approx(0.5)
