"""Distributions against SciPy and numerical integration."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jax import Array
from numpy.typing import NDArray
from scipy import special, stats

from rlgd.maths.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    DiagGaussian,
    Distribution,
    MultiCategorical,
    TanhGaussian,
)

BATCH, SIZE, SAMPLES = 7, 3, 20_000
LOW, HIGH = jnp.array([-1.0, 0.0, -3.0]), jnp.array([1.0, 0.5, 7.0])

# name: the distribution for two arrays [..., 3]
FAMILIES: dict[str, Callable[[Array, Array], Distribution]] = {
    "categorical": lambda a, _: Categorical(a),
    "multi_categorical": lambda a, b: MultiCategorical(jnp.concatenate([a, b[..., :2]], axis=-1), (2, 1, 2)),
    "bernoulli": lambda a, _: Bernoulli(a),
    "diag_gaussian": DiagGaussian,
    "tanh_gaussian": lambda a, b: TanhGaussian(a, b, LOW, HIGH),
    "beta": lambda a, b: Beta(1 + jax.nn.softplus(a), 1 + jax.nn.softplus(b), LOW, HIGH),
}


def parameters(seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, BATCH, SIZE))
    return jnp.asarray(a, jnp.float32), jnp.asarray(0.5 * b, jnp.float32)


def categorical(seed: int) -> tuple[Categorical, NDArray[Any]]:
    logits, _ = parameters(seed)
    return Categorical(logits), special.softmax(np.asarray(logits, float), axis=-1)


def gaussian(seed: int) -> tuple[DiagGaussian, Any]:
    mean, log_std = parameters(seed)
    return DiagGaussian(mean, log_std), stats.norm(np.asarray(mean, float), np.exp(np.asarray(log_std, float)))


def test_categorical_equals_scipy() -> None:
    distribution, probability = categorical(0)
    other, other_probability = categorical(1)
    x = np.arange(BATCH) % SIZE
    np.testing.assert_allclose(
        distribution.log_prob(jnp.asarray(x)), np.log(probability[np.arange(BATCH), x]), rtol=1e-5
    )
    np.testing.assert_allclose(distribution.entropy(), stats.entropy(probability, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(
        distribution.kl(other), stats.entropy(probability, other_probability, axis=-1), rtol=1e-5
    )
    np.testing.assert_array_equal(distribution.mode(), np.argmax(probability, axis=-1))


def test_gaussian_equals_scipy() -> None:
    distribution, reference = gaussian(0)
    other, other_reference = gaussian(1)
    x = np.random.default_rng(2).normal(size=(BATCH, SIZE))
    np.testing.assert_allclose(
        distribution.log_prob(jnp.asarray(x, jnp.float32)), reference.logpdf(x).sum(-1), rtol=1e-5
    )
    np.testing.assert_allclose(distribution.entropy(), reference.entropy().sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(distribution.mode(), distribution.mean)
    # The integrand of the divergence is quadratic: three nodes of Gauss and Hermite are exact.
    nodes, weights = special.roots_hermitenorm(3)
    at = reference.mean() + reference.std() * nodes[:, None, None]
    integrand = (reference.logpdf(at) - other_reference.logpdf(at)).sum(-1)
    np.testing.assert_allclose(distribution.kl(other), weights @ integrand / weights.sum(), rtol=1e-4)


def beta(seed: int) -> tuple[Beta, Any]:
    alpha, other = (1.0 + np.exp(np.asarray(x, float)) for x in parameters(seed))
    low, width = np.asarray(LOW, float), np.asarray(HIGH - LOW, float)
    ours = Beta(jnp.asarray(alpha, jnp.float32), jnp.asarray(other, jnp.float32), LOW, HIGH)
    return ours, stats.beta(alpha, other, low, width)


def test_beta_equals_scipy() -> None:
    distribution, reference = beta(0)
    other, other_reference = beta(1)
    x = np.random.default_rng(2).uniform(0.02, 0.98, (BATCH, SIZE))
    low, width = np.asarray(LOW, float), np.asarray(HIGH - LOW, float)
    np.testing.assert_allclose(
        distribution.log_prob(jnp.asarray(x, jnp.float32)), reference.logpdf(low + width * x).sum(-1), rtol=1e-4
    )
    np.testing.assert_allclose(distribution.entropy(), reference.entropy().sum(-1), rtol=1e-4, atol=1e-4)
    grid = (np.arange(200_000) + 0.5) / 200_000
    at = low + width * grid[:, None, None]
    density = reference.pdf(at) * width
    apart = np.mean(density * (reference.logpdf(at) - other_reference.logpdf(at)), axis=0).sum(-1)
    np.testing.assert_allclose(distribution.kl(other), apart, rtol=2e-3)


def test_beta_samples_follow_the_density_and_stay_inside() -> None:
    distribution, reference = beta(3)
    one = Beta(many(distribution.alpha[0]), many(distribution.beta[0]), LOW, HIGH)
    sample = np.asarray(one.squash(one.sample(jax.random.key(0))))
    for i in range(SIZE):
        cdf = stats.beta(reference.args[0][0, i], reference.args[1][0, i], float(LOW[i]), float((HIGH - LOW)[i])).cdf
        assert stats.kstest(sample[:, i], cdf).pvalue > 0.01
    assert np.all((sample >= np.asarray(LOW)) & (sample <= np.asarray(HIGH)))


def test_the_mode_of_a_beta_is_its_peak_or_its_mean() -> None:
    alpha, beta = jnp.array([3.0, 0.5, 1.0]), jnp.array([2.0, 0.5, 1.0])
    np.testing.assert_allclose(Beta(alpha, beta, LOW, HIGH).mode(), [2 / 3, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("x", [0.0, 1.0, -5.0, 1e9])
def test_what_a_beta_cannot_give_stays_finite(x: float) -> None:
    """Masked rows may have any values: neither they nor their gradients may become NaN."""

    def log_prob(alpha: Array) -> Array:
        return jnp.sum(Beta(alpha, alpha, LOW, HIGH).log_prob(jnp.full(SIZE, x)))

    value, gradient = jax.value_and_grad(log_prob)(jnp.full(SIZE, 1.5))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_one_log_std_serves_all_rows() -> None:
    mean, log_std = parameters()
    shared = DiagGaussian(mean, log_std[0])
    spelt_out = DiagGaussian(mean, jnp.broadcast_to(log_std[0], mean.shape))
    np.testing.assert_array_equal(shared.entropy(), spelt_out.entropy())
    np.testing.assert_array_equal(shared.log_prob(mean + 1), spelt_out.log_prob(mean + 1))
    np.testing.assert_array_equal(shared.sample(jax.random.key(0)), spelt_out.sample(jax.random.key(0)))


def many(row: Array) -> Array:
    return jnp.broadcast_to(row, (SAMPLES, SIZE))


def test_categorical_samples_have_its_frequencies() -> None:
    distribution, probability = categorical(3)
    sample = Categorical(many(distribution.logits[0])).sample(jax.random.key(0))
    counts = np.bincount(sample, minlength=SIZE)
    assert stats.chisquare(counts, SAMPLES * probability[0]).pvalue > 0.01


def test_gaussian_samples_are_normal_and_independent() -> None:
    distribution, reference = gaussian(4)
    sample = DiagGaussian(many(distribution.mean[0]), many(distribution.log_std[0])).sample(jax.random.key(1))
    for i in range(SIZE):
        normal = stats.norm(reference.mean()[0, i], reference.std()[0, i])
        assert stats.kstest(np.asarray(sample[:, i]), normal.cdf).pvalue > 0.01
    correlation = np.corrcoef(np.asarray(sample), rowvar=False) - np.eye(SIZE)
    assert np.all(np.abs(correlation) < 4 / np.sqrt(SAMPLES))


def test_squashed_samples_follow_the_density() -> None:
    """The share of samples below a bound is the integral of the density up to it."""
    distribution = TanhGaussian(many(jnp.array([0.3, -1.0, 1.0])), many(jnp.array([0.0, 0.5, -0.5])), LOW, HIGH)
    sample = np.asarray(distribution.squash(distribution.sample(jax.random.key(2))))
    assert np.all((sample >= np.asarray(LOW)) & (sample <= np.asarray(HIGH)))
    for i in range(SIZE):
        y, log_density = squashed_density(distribution.mean[0, i], distribution.log_std[0, i], LOW[i], HIGH[i])
        below = np.concatenate([[0], np.cumsum(np.diff(y) * (np.exp(log_density[1:]) + np.exp(log_density[:-1])) / 2)])
        assert stats.kstest(sample[:, i], lambda at, y=y, below=below: np.interp(at, y, below)).pvalue > 0.01


def squashed_density(mean: Any, log_std: Any, low: Any, high: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Points all over the box of one dimension, and the log-density there."""
    mean, log_std, low, high = (float(x) for x in (mean, log_std, low, high))
    with jax.enable_x64(True):
        x = mean + np.exp(log_std) * jnp.linspace(-12, 12, 40_001)[:, None]
        distribution = TanhGaussian(
            jnp.full_like(x, mean), jnp.full_like(x, log_std), jnp.full(1, low), jnp.full(1, high)
        )
        return np.asarray(distribution.squash(x)[:, 0]), np.asarray(distribution.log_prob(x))


@pytest.mark.parametrize("mean", [-3.0, 0.0, 0.7])
@pytest.mark.parametrize("std", [0.1, 0.5, 1.0, 2.0])
def test_squashed_density_integrates_to_1_and_to_its_entropy(mean: float, std: float) -> None:
    low, high = -0.5, 3.0
    y, log_density = squashed_density(mean, np.log(std), low, high)
    density = np.exp(log_density)
    np.testing.assert_allclose(np.trapezoid(density, y), 1, atol=1e-4)
    distribution = TanhGaussian(jnp.full(1, mean), jnp.log(jnp.full(1, std)), jnp.full(1, low), jnp.full(1, high))
    np.testing.assert_allclose(distribution.entropy(), -np.trapezoid(density * log_density, y), atol=1e-3)


def test_squashed_log_prob_is_that_of_the_change_of_variable() -> None:
    mean, log_std = parameters(5)
    distribution = TanhGaussian(mean, log_std, LOW, HIGH)
    x = 2 * parameters(6)[0]
    slope = jax.jvp(distribution.squash, (x,), (jnp.ones_like(x),))[1]
    expected = DiagGaussian(mean, log_std).log_prob(x) - jnp.sum(jnp.log(slope), axis=-1)
    np.testing.assert_allclose(distribution.log_prob(x), expected, rtol=1e-3)
    other = TanhGaussian(log_std, mean, LOW, HIGH)
    np.testing.assert_array_equal(distribution.kl(other), DiagGaussian(mean, log_std).kl(DiagGaussian(log_std, mean)))


@pytest.mark.parametrize("x", [-1e4, 50.0])
def test_squashing_stays_finite_and_inside_far_out(x: float) -> None:
    sample = jnp.full(SIZE, x)

    def log_prob(mean: Array) -> Array:
        return TanhGaussian(mean, jnp.zeros(SIZE), LOW, HIGH).log_prob(sample)

    value, gradient = jax.jit(jax.value_and_grad(log_prob))(jnp.zeros(SIZE))
    assert np.all(np.isfinite([value, *gradient]))
    action = TanhGaussian(sample, jnp.zeros(SIZE), LOW, HIGH).squash(sample)
    assert np.all((action >= LOW) & (action <= HIGH))


@jax.jit
def squashed(low: Array, high: Array, x: Array) -> Array:
    return TanhGaussian(x, x, low, high).squash(x)


@given(
    bounds=st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)),
    x=st.floats(-100, 100, width=32),
)
def test_squashed_values_never_leave_the_box(bounds: tuple[float, float], x: float) -> None:
    assume(bounds[0] != bounds[1])
    low, high = sorted(bounds)
    action = squashed(*(jnp.asarray([number], jnp.float32) for number in (low, high, x)))
    assert low <= action[0] <= high


JOINTS: dict[str, tuple[tuple[int, ...], Callable[[Array], MultiCategorical | Bernoulli]]] = {
    "multi_categorical": ((2, 3, 1), lambda x: MultiCategorical(x, (2, 3, 1))),
    "bernoulli": ((2,) * 6, Bernoulli),
}


@pytest.mark.parametrize("name", JOINTS)
def test_several_numbers_are_the_product_of_their_distributions(name: str) -> None:
    """Over all that can be drawn: probabilities, entropy, divergence, mode and the frequencies of samples."""
    sizes, family = JOINTS[name]
    rng = np.random.default_rng(0)
    logits, other = (jnp.asarray(rng.normal(size=6), jnp.float32) for _ in range(2))
    outcomes = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))

    def joint(logits: Array) -> NDArray[Any]:
        rows = jnp.broadcast_to(logits, (len(outcomes), 6))
        return np.exp(np.asarray(family(rows).log_prob(jnp.asarray(outcomes)), float))

    p, q = joint(logits), joint(other)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    if name == "bernoulli":
        np.testing.assert_allclose(p @ outcomes, special.expit(np.asarray(logits, float)), rtol=1e-5)
    else:
        np.testing.assert_allclose(
            p.reshape(2, 3).sum(axis=0), special.softmax(np.asarray(logits[2:5], float)), rtol=1e-5
        )
    np.testing.assert_allclose(family(logits).entropy(), stats.entropy(p), rtol=1e-5)
    np.testing.assert_allclose(family(logits).kl(family(other)), stats.entropy(p, q), rtol=1e-4)  # type: ignore[arg-type]
    np.testing.assert_array_equal(family(logits).mode(), outcomes[p.argmax()])
    sample = np.asarray(family(jnp.broadcast_to(logits, (SAMPLES, 6))).sample(jax.random.key(1)))
    counts = np.bincount(np.ravel_multi_index(sample.T, sizes), minlength=len(outcomes))
    assert stats.chisquare(counts, SAMPLES * p / p.sum()).pvalue > 0.01


def test_bits_that_are_certain_stay_finite() -> None:
    sure = Bernoulli(jnp.array([[200.0, -200.0]]))
    np.testing.assert_array_equal(sure.log_prob(jnp.array([[1, 0]])), 0)
    np.testing.assert_array_equal(sure.entropy(), 0)
    slopes = jax.grad(lambda x: jnp.sum(Bernoulli(x).entropy() + Bernoulli(x).log_prob(jnp.array([[0, 1]]))))(
        sure.logits
    )
    assert np.isfinite(slopes).all()


UNLIKELY = float(jnp.finfo(jnp.float32).min)


def test_masked_logits_change_nothing_for_the_others() -> None:
    logits, other = parameters(7)[0], parameters(8)[0]

    def facts(logits: Array, other: Array) -> tuple[Array, Array, Array]:
        p, q = Categorical(logits), Categorical(other)
        return p.entropy().sum(), p.kl(q).sum(), p.log_prob(jnp.ones(BATCH, jnp.int32)).sum()

    def masked(x: Array) -> Array:
        return x.at[:, -1].set(UNLIKELY)

    for a, b in zip(facts(masked(logits), masked(other)), facts(logits[:, :-1], other[:, :-1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    jacobian = jax.jit(jax.jacrev(facts))
    for a, b in zip(jacobian(masked(logits), masked(other)), jacobian(logits[:, :-1], other[:, :-1]), strict=True):
        np.testing.assert_array_equal(a[:, -1], 0)
        np.testing.assert_allclose(a[:, :-1], b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-23])
@pytest.mark.parametrize("masked", [0, 2, -1])
def test_what_has_no_probability_is_never_sampled(uniform: float, masked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for the smallest and the largest number that ``jax.random.uniform`` returns."""
    logits = jnp.asarray(np.random.default_rng(9).normal(size=(2000, 6)), jnp.float32).at[:, masked].set(UNLIKELY)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, uniform, dtype))
    sample = Categorical(logits).sample(jax.random.key(0))
    assert np.all(np.asarray(sample) != masked % 6)


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_types_and_batches(name: str) -> None:
    a, b = parameters()
    event = () if name == "categorical" else (SIZE,)
    dtype = jnp.float32 if "gaussian" in name or name == "beta" else jnp.int32
    key = jax.random.key(0)

    def facts(a: Array, b: Array, x: Array) -> dict[str, Array]:
        p, q = FAMILIES[name](a, b), FAMILIES[name](b, a)
        return {"log_prob": p.log_prob(x), "entropy": p.entropy(), "kl": p.kl(q), "mode": p.mode()}  # type: ignore[arg-type]

    sample = FAMILIES[name](a, b).sample(key)
    assert sample.shape == (BATCH, *event)
    assert sample.dtype == dtype
    batched = facts(a, b, sample)
    one_by_one = jax.jit(jax.vmap(facts))(a, b, sample)
    for fact, value in batched.items():
        assert value.shape == (sample.shape if fact == "mode" else (BATCH,))
        assert value.dtype == (dtype if fact == "mode" else jnp.float32)
        np.testing.assert_allclose(value, one_by_one[fact], rtol=1e-5, atol=1e-6)
    assert np.all(batched["kl"] > 0)
    np.testing.assert_allclose(FAMILIES[name](a, b).kl(FAMILIES[name](a, b)), 0, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FAMILIES)
def test_distributions_are_pytrees_and_equal_keys_give_equal_samples(name: str) -> None:
    distribution = FAMILIES[name](*parameters())
    jitted = jax.jit(lambda distribution, key: distribution.sample(key))
    np.testing.assert_array_equal(jitted(distribution, jax.random.key(0)), jitted(distribution, jax.random.key(0)))
    assert np.any(jitted(distribution, jax.random.key(0)) != jitted(distribution, jax.random.key(1)))


INF = np.inf
# Of each distribution: two arrays of logits, the places of those that are finite, a possible and an impossible x.
EXCLUDING = {
    "categorical": (Categorical, [1.0, -INF, 0.5], [0.2, -INF, 0.1], [0, 2], 0, 1),
    "several": (
        lambda logits: MultiCategorical(logits, (3, 2)),
        [1.0, -INF, 0.5, 2.0, -INF],
        [0.2, -INF, 0.1, 1.0, -INF],
        [0, 2],
        [0, 0],
        [1, 0],
    ),
    "bits": (Bernoulli, [1.0, -INF, INF], [0.2, -INF, INF], [0], [1, 0, 1], [1, 1, 1]),
}


@pytest.mark.parametrize("case", EXCLUDING.values(), ids=EXCLUDING)
def test_what_an_infinite_logit_excludes_adds_nothing(case: Any) -> None:
    """Entropy and KL are those of the values that remain, and so are their gradients; nothing is NaN."""
    make, logits, others, places, possible, impossible = case
    logits, others, places = map(jnp.asarray, (logits, others, places))
    rest: Any = Bernoulli if make is Bernoulli else Categorical
    for whole, remaining in (
        (lambda x: make(x).entropy(), lambda x: rest(x).entropy()),
        (lambda x: make(x).kl(make(others)), lambda x: rest(x).kl(rest(others[places]))),
        (lambda x: make(others).kl(make(x)), lambda x: rest(others[places]).kl(rest(x))),
    ):
        np.testing.assert_allclose(whole(logits), remaining(logits[places]), rtol=1e-5)
        gradient = jnp.zeros_like(logits).at[places].set(jax.grad(remaining)(logits[places]))
        np.testing.assert_allclose(jax.grad(whole)(logits), gradient, atol=1e-6)
    for x, value in ((possible, np.isfinite), (impossible, np.isneginf)):
        log_prob, gradient = jax.value_and_grad(lambda logits, x=x: make(logits).log_prob(jnp.asarray(x)))(logits)
        assert value(log_prob)
        assert np.isfinite(gradient).all()


def test_what_the_other_distribution_excludes_is_infinitely_far() -> None:
    assert Categorical(jnp.zeros(2)).kl(Categorical(jnp.array([0.0, -jnp.inf]))) == jnp.inf
    assert Bernoulli(jnp.zeros(1)).kl(Bernoulli(jnp.array([-jnp.inf]))) == jnp.inf
