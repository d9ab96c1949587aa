"""Every row of the table of optimizers: its formula, optax's own alias, where it climbs to, what it says of itself.

Exceptions stand in tables next to the test that they concern, each with its reason; a new row has none.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array
from numpy.typing import NDArray
from optax import contrib

from rlgd.ascent import OPTIMIZERS, Ascent, apply_step
from rlgd.ascent.formulas import TRUST_COEFFICIENT
from tests.ascent.by_hand import BY_HAND
from tests.support.marks import OF_EACH_KIND, quick

Tree = dict[str, Array]
Vector = NDArray[Any]
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
every_kind = pytest.mark.parametrize("name", quick(OF_EACH_KIND, OPTIMIZERS))

# Values unlike any default, for the fields that an optimizer uses.
NUMBERS = {"momentum": 0.8, "second_moment": 0.95, "epsilon": 1e-3, "weight_decay": 0.03}
WITH_MOMENTUM = [name for name, row in OPTIMIZERS.items() if "momentum" in row.defaults]


def chosen(name: str, learning_rate: float = 0.1, **fields: Any) -> Ascent:
    """The optimizer with a value in every field that it uses."""
    used: dict[str, Any] = {field: NUMBERS[field] for field in OPTIMIZERS[name].defaults}
    return Ascent(name, learning_rate, **(used | fields))


# The leaves have the names that optimizers give to parts of their states: parameters may be called anything. Matrices
# are higher than wide, and wider than high, also those between the first and the last, which Muon takes for hidden
# layers; one array begins at 0, where methods that scale by |w| differ.
def start() -> Tree:
    random = np.random.default_rng(1)
    shapes = {"mu": (3, 2), "my": (4, 2), "mz": (2, 3), "nu": (2, 4), "trace": (3,), "count": ()}
    tree = {name: jnp.asarray(random.normal(size=shape), float) for name, shape in shapes.items()}
    return tree | {"n": jnp.zeros(2)}


HIDDEN = ("my", "mz")
STEPS = 14  # more than the memory of L-BFGS
PROGRESS = np.linspace(0, 0.9, STEPS)


class Path(NamedTuple):
    """A climb: the parameters before each step, the gradient there and the step, each ``[STEPS, ...]``."""

    params: Tree
    gradient: Tree
    step: Tree


def noisy_climb(
    transformation: optax.GradientTransformationExtraArgs, reference: optax.GradientTransformation | None = None
) -> tuple[Path, Tree]:
    """A climb of a quadratic, seen through noise, and the steps of ``reference`` at the same points."""
    random = np.random.default_rng(0)
    noise = {name: jnp.asarray(random.normal(size=(STEPS, *leaf.shape))) for name, leaf in start().items()}

    def step(carry: tuple[Tree, Any, Any], now: tuple[Tree, Array]) -> tuple[tuple[Tree, Any, Any], tuple[Path, Tree]]:
        params, state, other = carry
        gradient = jax.tree.map(lambda w, x: x - 0.5 * w, params, now[0])
        change, state = transformation.update(gradient, state, params, progress=now[1])
        expected = change
        if reference is not None:
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                expected, other = reference.update(jax.tree.map(jnp.negative, gradient), other, params)
        return (apply_step(params, change), state, other), (Path(params, gradient, change), expected)

    states = transformation.init(start()), None if reference is None else reference.init(start())
    return jax.jit(lambda: jax.lax.scan(step, (start(), *states), (noise, jnp.asarray(PROGRESS))))()[1]


def orthogonalized(matrix: Vector, epsilon: float) -> Vector:
    """Muon's: five steps of the quintic Newton-Schulz iteration from ``matrix / |matrix|``, on the shorter side."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (np.linalg.norm(x) + epsilon)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def documented(
    name: str,
    gs: Sequence[Vector],
    ws: Sequence[Vector],
    rates: Sequence[float],
    momenta: Sequence[float],
    b: float,
    e: float,
    decay: float,
) -> Iterator[Vector]:
    """The steps that the formulas in ``OPTIMIZERS`` give for one array; the letters are those of the formulas.

    Without an estimate of the Fisher matrix f is g^2; ``test_fisher.py`` gives one.
    """
    v: Any = np.zeros_like(gs[0])
    s = u = d = v
    rows = columns = np.zeros(())
    x = z = ws[0]
    weights, largest = 0.0, 0.0
    memory: list[tuple[Vector, Vector]] = []
    if name in ("adagrad", "yogi"):
        s = s + {"adagrad": 0.1, "yogi": 1e-6}[name]
    for t, (g, w, a, m) in enumerate(zip(gs, ws, rates, momenta, strict=True), 1):
        size = np.linalg.norm
        match name:
            case "sgd":
                yield a * g
            case "momentum":
                v = m * v + g
                yield a * v
            case "nesterov":
                v = m * v + g
                yield a * (m * v + g)
            case "rmsprop":
                s = b * s + (1 - b) * g**2
                v = m * v + g / np.sqrt(s + e)
                yield a * v
            case "rmsprop_centred":
                s, u = b * s + (1 - b) * g**2, b * u + (1 - b) * g
                v = m * v + g / np.sqrt(s - u**2 + e)
                yield a * v
            case "adagrad":
                s = s + g**2
                yield a * g / np.sqrt(s + e)
            case "adadelta":
                s = b * s + (1 - b) * g**2
                d = g * np.sqrt(u + e) / np.sqrt(s + e)
                u = b * u + (1 - b) * d**2
                yield a * d
            case "adam" | "adamw" | "lamb":
                v, s = m * v + (1 - m) * g, b * s + (1 - b) * g**2
                d = v / (1 - m**t) / (np.sqrt(s / (1 - b**t)) + e)
                if name == "lamb":
                    d = d * (size(w) / size(d) if size(w) else 1)
                yield a * d - a * (decay * w if name == "adamw" else 0)
            case "nadam" | "nadamw":
                v, s = m * v + (1 - m) * g, b * s + (1 - b) * g**2
                ahead = m * v / (1 - m ** (t + 1)) + (1 - m) * g / (1 - m**t)
                yield a * ahead / (np.sqrt(s / (1 - b**t)) + e) - a * (decay * w if name == "nadamw" else 0)
            case "amsgrad":
                v, s = m * v + (1 - m) * g, b * s + (1 - b) * g**2
                u = np.maximum(u, s / (1 - b**t))
                yield a * v / (1 - m**t) / (np.sqrt(u) + e)
            case "adamax":
                v, s = m * v + (1 - m) * g, np.maximum(b * s, np.abs(g) + e)
                yield a * v / (1 - m**t) / s
            case "radam":
                v, s = m * v + (1 - m) * g, b * s + (1 - b) * g**2
                most = 2 / (1 - b) - 1
                length = most - 2 * t * b**t / (1 - b**t)  # of the average that s is
                if length < 5:
                    yield a * v / (1 - m**t)
                else:
                    r = np.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
                    yield a * r * v / (1 - m**t) / (np.sqrt(s / (1 - b**t)) + e)
            case "adabelief":
                v = m * v + (1 - m) * g
                s = b * s + (1 - b) * (g - v) ** 2 + 1e-16
                yield a * v / (1 - m**t) / (np.sqrt(s / (1 - b**t)) + e)
            case "adan":
                change = g - gs[t - 2] if t > 1 else 0 * g
                v, d = m * v + (1 - m) * g, 0.92 * d + 0.08 * change
                s = b * s + (1 - b) * (g + 0.92 * change) ** 2
                yield a * (v / (1 - m**t) + 0.92 * d / (1 - 0.92**t)) / (np.sqrt(s / (1 - b**t)) + e)
            case "yogi":
                v, s = m * v + (1 - m) * g, s - (1 - b) * np.sign(s - g**2) * g**2
                yield a * v / (1 - m**t) / (np.sqrt(s / (1 - b**t)) + e)
            case "lion":
                yield a * np.sign(m * v + (1 - m) * g)
                v = b * v + (1 - b) * g
            case "signum":
                v = m * v + (1 - m) * g
                yield a * np.sign(v)
            case "novograd":
                s = size(g) ** 2 if t == 1 else b * s + (1 - b) * size(g) ** 2
                v = m * v + g / (np.sqrt(s) + e)
                yield a * v
            case "lars":
                v = m * v + g * (0.001 * size(w) / size(g) if size(w) else 1)
                yield a * v
            case "sm3":
                if g.ndim == 2:
                    s = g**2 + np.minimum(rows, columns)
                    rows, columns = s.max(axis=1, keepdims=True), s.max(axis=0, keepdims=True)
                else:
                    s = g**2 + s
                v = m * v + (1 - m) * g / np.sqrt(s + 1e-8)
                yield a * v
            case "adafactor":
                keep = 1 - t**-0.8
                s = keep * s + (1 - keep) * (g**2 + e)
                d = g / np.sqrt(s)
                d = d / max(1, np.sqrt(np.mean(d**2)))
                v = m * v + (1 - m) * max(1e-3, np.sqrt(np.mean(w**2))) * d
                yield a * v
            case "muon":
                v = m * v + (1 - m) * g
                ahead = m * v / (1 - m ** (t + 1)) + (1 - m) * g / (1 - m**t)
                yield a * np.sqrt(max(1, g.shape[1] / g.shape[0])) * orthogonalized(ahead, e)
            case "schedule_free_sgd" | "schedule_free_adamw":
                s = b * s + (1 - b) * g**2
                d = g / (np.sqrt(s / (1 - b**t)) + e) if name == "schedule_free_adamw" else g
                z = z + a * (d - decay * w)
                largest = max(largest, a)
                weights += largest**2
                x = x + largest**2 / weights * (z - x)
                yield m * x + (1 - m) * z - w
            case "sophia":
                v, s = m * v + (1 - m) * g, b * s + (1 - b) * g**2
                yield a * np.clip(v / np.maximum(0.05 * s, e), -1, 1)
            case "kfac":
                v, s = m * v + (1 - m) * g, b * s + (1 - b) * g**2
                yield a * v / (s / (1 - b**t) + e)
            case "lbfgs":
                if t > 1:
                    memory = [*memory, (w - ws[t - 2], gs[t - 2] - g)][-10:]
                q, shares, scale = g, [], min(1, 1 / size(g))
                for dw, dg in reversed(memory):
                    shares.append((dw @ q) / (dw @ dg))
                    q = q - shares[-1] * dg
                if memory:
                    dw, dg = memory[-1]
                    scale = (dw @ dg) / (dg @ dg)
                q = scale * q
                for (dw, dg), share in zip(memory, reversed(shares), strict=True):
                    q = q + (share - (dg @ q) / (dw @ dg)) * dw
                yield a * (q if q @ g > 0 else g * min(1, 1 / size(g)))
            case _ if name in BY_HAND:
                yield from BY_HAND[name](gs, ws, rates, momenta, b, e)
                return
            case _:
                raise NotImplementedError(f"no formula for {name}: write it here")


TOLERANCE = {"adafactor": 1e-6}  # optax computes t^-0.8 in single precision
WHOLE = ("lbfgs", "mars", "prodigy", "dadapt_adam", "dog", "dowg", "mechanic")  # their arrays are one vector


@pytest.mark.parametrize(
    ("name", "momentum_schedule"),
    [(name, "constant") for name in OPTIMIZERS]
    + [(name, "linear:0.5") for name in WITH_MOMENTUM if "momentum_schedule" not in OPTIMIZERS[name].excludes],
)
def test_steps_equal_the_documented_formula(name: str, momentum_schedule: str) -> None:
    """With a step size, and a momentum, that change from step to step."""
    rule = chosen(name, schedule="piecewise:0=0.5,0.5=1,1=0.2", momentum_schedule=momentum_schedule)
    with jax.enable_x64(True):
        path, _ = noisy_climb(rule.transformation())
        rates = [float(rule.step_size(p)) for p in PROGRESS]
        momenta = [float(rule.momentum_at(p)) for p in PROGRESS]
    used = rule.resolved().rule
    numbers = [float(value or 0) for value in (used.second_moment, used.epsilon, used.weight_decay)]
    leaves: list[list[Vector]] = [[np.asarray(leaf) for leaf in jax.tree.leaves(part)] for part in path]
    if name in WHOLE:
        leaves = [[np.concatenate([leaf.reshape(STEPS, -1) for leaf in part], axis=1)] for part in leaves]
    for leaf, params, gradient, step in zip(sorted(start()) if name not in WHOLE else [""], *leaves, strict=True):
        own = "nadam" if name == "muon" and leaf not in HIDDEN else name
        expected = np.array([*documented(own, gradient, params, rates, momenta, *numbers)])
        tolerance = TOLERANCE.get(name, 1e-10)
        np.testing.assert_allclose(step, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def _adam_like(alias: Callable[..., Any]) -> Callable[..., optax.GradientTransformation]:
    def build(a: float, momentum: float, second_moment: float, epsilon: float, **rest: float) -> Any:
        return alias(a, b1=momentum, b2=second_moment, eps=epsilon, **rest)

    return build


HIDDEN_MATRIX = contrib.MuonDimensionNumbers()
OPTAX: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": optax.sgd,
    "nesterov": lambda a, momentum: optax.sgd(a, momentum, nesterov=True),
    "rmsprop": lambda a, momentum, second_moment, epsilon: optax.rmsprop(a, second_moment, epsilon, momentum=momentum),
    "rmsprop_centred": lambda a, momentum, second_moment, epsilon: optax.rmsprop(
        a, second_moment, epsilon, momentum=momentum, centered=True
    ),
    "adagrad": lambda a, epsilon: optax.adagrad(a, eps=epsilon),
    "adadelta": lambda a, second_moment, epsilon: optax.adadelta(a, second_moment, epsilon),
    "adam": _adam_like(optax.adam),
    "adamw": _adam_like(optax.adamw),
    "nadam": _adam_like(optax.nadam),
    "nadamw": _adam_like(optax.nadamw),
    "amsgrad": _adam_like(optax.amsgrad),
    "adamax": _adam_like(optax.adamax),
    "radam": _adam_like(optax.radam),
    "adabelief": _adam_like(optax.adabelief),
    "lion": lambda a, momentum, second_moment: optax.lion(a, momentum, second_moment, weight_decay=0.0),
    "signum": lambda a, momentum: optax.signum(a, momentum),
    "novograd": _adam_like(optax.novograd),
    "lamb": _adam_like(optax.lamb),
    "lars": lambda a, momentum: optax.lars(a, momentum=momentum),
    "adafactor": lambda a, momentum, epsilon: optax.adafactor(
        a, momentum=momentum, eps=epsilon, dtype_momentum=jnp.float64
    ),
    "muon": lambda a, momentum, second_moment, epsilon: contrib.muon(
        a,
        beta=momentum,
        eps=epsilon,
        adam_b1=momentum,
        adam_b2=second_moment,
        muon_weight_dimension_numbers={leaf: HIDDEN_MATRIX if leaf in HIDDEN else None for leaf in start()},
    ),
    "ademamix": lambda a, momentum, second_moment, epsilon: contrib.ademamix(
        a, momentum, second_moment, b3=0.999, alpha=5.0, eps=epsilon
    ),
    "adopt": _adam_like(contrib.adopt),
    "dadapt_adam": lambda a, momentum, second_moment, epsilon: contrib.dadapt_adamw(
        a, (momentum, second_moment), epsilon
    ),
    "dog": lambda a, epsilon: contrib.dog(a, eps=epsilon),
    "dowg": lambda a, epsilon: contrib.dowg(a, eps=epsilon),
    "schedule_free_sgd": lambda a, momentum: contrib.schedule_free_sgd(a, b1=momentum),
    "schedule_free_adamw": _adam_like(contrib.schedule_free_adamw),
}
NOT_AS_IN_OPTAX = {
    **dict.fromkeys(("mars", "shampoo", "soap", "kfac"), "optax has none"),
    "sophia": "optax's is given an objective that draws its own outputs",
    "adan": "optax's weighs the differences of gradients by 0.08, the paper by 0.92",
    "cocob": "optax's step size scales gradients, on which the bets do not depend",
    "mechanic": "optax's takes the sum of steps from the parameters and divides it by the rates, with some error",
    "prodigy": "optax's takes the new distance in front of epsilon, the paper the one that the step has",
    "lbfgs": "optax's descends where the objective is not concave and no line search keeps that out of its memory",
    "sm3": "optax's has no case for numbers",
    "yogi": "optax's first moment begins at 1e-6, so that it descends where the gradient is 0",
}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in NOT_AS_IN_OPTAX])
def test_steps_equal_those_of_optax_down_the_negated_objective(name: str) -> None:
    """At a constant step size: optax's rmsprop, lars and adafactor gather steps, ours gathers scaled gradients."""
    with jax.enable_x64(True):
        theirs = OPTAX[name](0.1, **{field: NUMBERS[field] for field in OPTIMIZERS[name].defaults})
        path, expected = noisy_climb(chosen(name).transformation(), theirs)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-13), path.step, expected)


def climb(rule: Ascent, params: Tree, steps: int, uphill: Callable[[Tree], Tree]) -> Tree:
    """Where ``rule`` arrives."""
    transformation = rule.transformation()

    def step(carry: tuple[Tree, Any], progress: Array) -> tuple[tuple[Tree, Any], None]:
        params, state = carry
        change, state = transformation.update(uphill(params), state, params, progress=progress)
        return (apply_step(params, change), state), None

    progress = jnp.arange(steps) / steps
    return jax.jit(lambda: jax.lax.scan(step, (params, transformation.init(params)), progress))()[0][0]


def distance(params: Tree, goal: Tree) -> float:
    return max(float(jnp.max(jnp.abs(params[name] - goal[name]))) for name in goal)


class Climb(NamedTuple):
    """What an optimizer is given, and how near the summit it has to end; the learning rate falls to 0 linearly."""

    learning_rate: float = 0.3
    within: float = 1e-4
    schedule: str = "linear"
    max_grad_norm: float | None = None

    def rule(self, name: str) -> Ascent:
        return Ascent(
            name,
            self.learning_rate,
            schedule=self.schedule,
            max_grad_norm=self.max_grad_norm,
            weight_decay=0.0,
        )


# Steps of a fixed length (signs, sophia's bound, lamb, lars, muon's matrices) end as near as their last lengths.
QUADRATIC = {
    "adagrad": Climb(3.0),
    "adadelta": Climb(10.0),
    "adan": Climb(10.0),
    "amsgrad": Climb(1.0),
    "adamax": Climb(1.0),
    "radam": Climb(1.0),
    "lion": Climb(0.1, within=2e-3),
    "signum": Climb(0.03, within=3e-3),
    "novograd": Climb(0.01),
    "lamb": Climb(0.03, within=5e-3),
    "lars": Climb(10.0, within=2e-3),
    "sm3": Climb(10.0),
    "muon": Climb(0.1, within=3e-3),
    "schedule_free_sgd": Climb(3.0),
    "schedule_free_adamw": Climb(1.0, within=3e-4),
    "ademamix": Climb(3.0),
    "adopt": Climb(1.0),
    "shampoo": Climb(1.0),
    "soap": Climb(0.1),
    "sophia": Climb(0.03, within=5e-3),
    "dog": Climb(3.0),
    "mechanic": Climb(1.0, within=0.02),
    "lbfgs": Climb(1.0),
} | dict.fromkeys(("prodigy", "dadapt_adam", "dowg", "cocob"), Climb(1.0))


@every_kind
def test_climbs_a_concave_quadratic(name: str) -> None:
    curvature = {"m": jnp.array([[1.0, 0.5, 2.0], [0.2, 1.5, 0.7]]), "v": jnp.array([1.0, 0.2]), "s": jnp.array(0.5)}
    summit = {"m": jnp.array([[1.0, -0.5, 2.0], [0.5, -1.0, 0.7]]), "v": jnp.array([1.0, -2.0]), "s": jnp.array(3.0)}
    begin = {"m": jnp.array([[-1.0, 0.5, 1.0], [1.0, 1.0, -1.0]]), "v": jnp.array([-1.0, 2.0]), "s": jnp.array(0.5)}
    for layer in ("first", "output"):  # m is the hidden one between them
        curvature[layer], summit[layer], begin[layer] = (jnp.full((1, 1), x) for x in (1.0, 0.5, 1.0))
    how = QUADRATIC.get(name, Climb())
    end = climb(
        how.rule(name), begin, 500, lambda w: jax.tree.map(lambda h, x, top: h * (top - x), curvature, w, summit)
    )
    assert distance(begin, summit) == 4
    assert distance(end, summit) < how.within


# Along the valley's floor the curvature is 2,500 times smaller than across it.
ROSENBROCK = {
    "sgd": Climb(0.003, within=0.02),
    "momentum": Climb(0.003),
    "nesterov": Climb(0.001),
    "rmsprop": Climb(0.003),
    "rmsprop_centred": Climb(0.001),
    "adagrad": Climb(1.0, within=5e-3, schedule="constant"),
    "adadelta": Climb(0.3, within=5e-3),
    "adam": Climb(0.1),
    "adamw": Climb(0.1),
    "nadam": Climb(0.1),
    "nadamw": Climb(0.1),
    "amsgrad": Climb(1.0, within=3e-3),
    "adamax": Climb(0.1),
    "radam": Climb(0.1, max_grad_norm=10.0),  # its first steps are as long as the gradients, 233 at the start
    "adabelief": Climb(0.1),
    "adan": Climb(0.03),
    "lion": Climb(0.001),
    "signum": Climb(0.001),
    "novograd": Climb(0.001),
    "lamb": Climb(0.01),
    "lars": Climb(3.0),
    "sm3": Climb(3.0),
    "adafactor": Climb(0.01, within=5e-3),
    "muon": Climb(0.1),
    "schedule_free_sgd": Climb(0.003, within=0.15, schedule="constant"),
    "schedule_free_adamw": Climb(0.1, within=5e-3),
    "ademamix": Climb(0.1),
    "adopt": Climb(1.0),
    "mars": Climb(0.1),
    "shampoo": Climb(1.0, within=1e-3),
    "soap": Climb(0.1),
    "sophia": Climb(0.01, within=1e-3),
    "kfac": Climb(0.01),
    "prodigy": Climb(1.0),
    "dadapt_adam": Climb(1.0),
    "dog": Climb(1.0, within=0.02, schedule="constant"),
    "dowg": Climb(1.0, within=0.01),
    "mechanic": Climb(1.0, within=3e-3),
    "cocob": Climb(1.0, within=0.1, schedule="constant"),
    "lbfgs": Climb(1.0),
}


@every_optimizer
def test_climbs_out_of_rosenbrocks_valley(name: str) -> None:
    def height(params: Tree) -> Array:
        x, y = params["w"]
        return -jnp.square(1 - x) - 100 * jnp.square(y - jnp.square(x))

    how = ROSENBROCK.get(name, Climb(within=1e-3))
    end = climb(how.rule(name), {"w": jnp.array([-1.2, 1.0])}, 10_000, jax.grad(height))
    assert distance(end, {"w": jnp.ones(2)}) < how.within


def push(rule: Ascent, gradient: Tree, updates: int, params: Tree | None = None) -> tuple[Tree, Any]:
    """The last step, and the state, after several updates with the same gradient at the same parameters."""
    transformation, fixed = rule.transformation(), start() if params is None else params

    def update(carry: tuple[Tree, Any], _: None) -> tuple[tuple[Tree, Any], None]:
        return transformation.update(gradient, carry[1], fixed), None

    first = jax.tree.map(jnp.zeros_like, gradient), transformation.init(fixed)
    return jax.jit(lambda: jax.lax.scan(update, first, length=updates))()[0]


def steady_gradient() -> Tree:
    random = np.random.default_rng(2)
    return {name: jnp.asarray(random.normal(size=leaf.shape), float) for name, leaf in start().items()}


GATHERS_SCALED_GRADIENTS = (
    *("rmsprop", "rmsprop_centred", "novograd", "lars", "sm3", "adafactor", "adopt", "mars", "prodigy", "dadapt_adam"),
)


@every_kind
def test_the_first_moment_gathers_the_objective_s_gradients(name: str) -> None:
    """Averages of a steady gradient have grown to 1 - m^t of it, sums to the part 1 / (1 - m) more."""
    updates, row, rule = 5, OPTIMIZERS[name], chosen(name)
    with jax.enable_x64(True):
        gradient = steady_gradient()
        _, state = push(rule, gradient, updates)
        moment, at_first = rule.first_moment(state), rule.first_moment(rule.transformation().init(start()))
    assert (moment is None) == (at_first is None) == (not row.moment)
    if moment is None:
        return
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), at_first)
    assert jax.tree.map(jnp.shape, moment) == jax.tree.map(jnp.shape, gradient)
    if name in GATHERS_SCALED_GRADIENTS:
        jax.tree.map(lambda v, g: np.testing.assert_array_equal(np.sign(v), np.sign(g)), moment, gradient)
    else:
        kept = NUMBERS["second_moment" if name == "lion" else "momentum"]
        size = (1 - kept**updates) / (1 - kept if row.sums_gradients else 1)
        jax.tree.map(lambda v, g: np.testing.assert_allclose(v, size * np.asarray(g), rtol=1e-12), moment, gradient)


@pytest.mark.parametrize("leaves", [["mu", "my", "nu"], ["trace", "count"]])
def test_the_first_moment_is_whole_where_muon_has_only_one_kind_of_array(leaves: list[str]) -> None:
    params, gradient = ({name: tree[name] for name in leaves} for tree in (start(), steady_gradient()))
    rule = chosen("muon")
    moment = rule.first_moment(push(rule, gradient, 1, params)[1])
    jax.tree.map(lambda v, g: np.testing.assert_allclose(v, (1 - NUMBERS["momentum"]) * g, rtol=1e-6), moment, gradient)


def epsilon_shares(rule: Ascent, gradients: Sequence[Tree], updates: int) -> Vector:
    """The share after each of several updates with the same gradient, ``[gradients, updates]``."""
    transformation = rule.transformation()

    def update(state: Any, gradient: Tree) -> tuple[Any, Array | None]:
        _, state = transformation.update(gradient, state, start())
        return state, rule.epsilon_share(state)

    def shares(gradient: Tree) -> Array | None:
        repeated = jax.tree.map(lambda x: jnp.broadcast_to(x, (updates, *x.shape)), gradient)
        return jax.lax.scan(update, transformation.init(start()), repeated)[1]

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
    return np.asarray(jax.jit(jax.vmap(shares))(stacked))


def alike(size: float) -> Tree:
    return jax.tree.map(lambda x: jnp.full_like(x, size), start())


WITH_FLOOR = [name for name, row in OPTIMIZERS.items() if row.floor]
# Where the second moment does not begin at 0, epsilon has to be larger than where it begins.
EPSILON = {"adagrad": 1.0, "yogi": 0.1}


@pytest.mark.parametrize("name", WITH_FLOOR)
def test_epsilon_share_counts_the_parameters_whose_step_epsilon_decides(name: str) -> None:
    tiny, large = alike(1e-20), alike(1e4)
    some = [{}, {"mu": tiny["mu"]}, {"count": tiny["count"], "n": tiny["n"]}, tiny]
    shares = epsilon_shares(chosen(name, epsilon=EPSILON.get(name, 1e-3)), [large | mixed for mixed in some], 3)
    few = [sum(leaf.size for leaf in mixed.values()) for mixed in some]
    np.testing.assert_allclose(shares, np.repeat(np.array(few)[:, None] / few[-1], 3, axis=1), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in WITH_FLOOR])
def test_methods_that_do_not_divide_by_a_second_moment_have_no_epsilon_share(name: str) -> None:
    assert chosen(name).epsilon_share(chosen(name).transformation().init(start())) is None


NOT_AT_EPSILON = {
    "rmsprop": "epsilon is compared with the square, and nothing corrects the bias",
    "adagrad": "squares are added up, from 0.1",
    "adadelta": "epsilon is compared with the square, and nothing corrects the bias",
    "adabelief": "squares the difference to the first moment",
    "yogi": "its second moment begins at 1e-6",
    "sophia": "epsilon is compared with the square, and nothing corrects the bias",
}


@pytest.mark.parametrize("name", [name for name in WITH_FLOOR if name not in NOT_AT_EPSILON])
def test_epsilon_decides_where_gradients_are_smaller(name: str) -> None:
    """From the first update on, although the second moment is then only 1 - b of a gradient's square."""
    shares = epsilon_shares(chosen(name), [alike(factor * NUMBERS["epsilon"]) for factor in (-0.99, 1.01)], 7)
    np.testing.assert_array_equal(shares, np.repeat([[1.0], [0.0]], 7, axis=1))


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad", "adamax", "radam", "adan", "lamb"])
def test_the_first_step_does_not_depend_on_how_averages_are_taken(name: str) -> None:
    steps = []
    with jax.enable_x64(True):
        for momentum, second_moment in ((0.1, 0.2), (0.99, 0.999)):
            rule = chosen(name, momentum=momentum, second_moment=second_moment)
            steps.append(push(rule, steady_gradient(), 1)[0])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10), *steps)


GOES_ELSEWHERE = {
    "rmsprop_centred": "divides by the deviation from the average, which goes to 0",
    "adabelief": "divides by the deviation from the average, which goes to 0",
    "sm3": "divides by a sum, which grows",
    "schedule_free_sgd": "moves to an average of all positions",
    "schedule_free_adamw": "moves to an average of all positions",
    "ademamix": "adds up to 5 times a slow average to the step",
    "shampoo": "divides by a sum, which grows",
    "prodigy": "estimates its step size",
    "dadapt_adam": "estimates its step size",
    "mechanic": "estimates its step size",
}


@pytest.mark.parametrize(
    "name", [name for name in OPTIMIZERS if name in ("sgd", *WITH_MOMENTUM) and name not in GOES_ELSEWHERE]
)
def test_a_steady_gradient_of_length_1_moves_parameters_by_the_effective_step(name: str) -> None:
    with jax.enable_x64(True):
        one = {"w": jnp.ones(())}
        rule = chosen(name, weight_decay=0.0, **({"epsilon": 1e-12} if "epsilon" in OPTIMIZERS[name].defaults else {}))
        step, _ = push(rule, one, 1000, one)
        expected = float(rule.effective_step(0.0))
    assert expected == pytest.approx(0.1 / (1 - NUMBERS["momentum"]) if OPTIMIZERS[name].sums_gradients else 0.1)
    np.testing.assert_allclose(step["w"], expected * (TRUST_COEFFICIENT if name == "lars" else 1), rtol=1e-6)


@every_kind
def test_a_steady_gradient_keeps_every_step_finite(name: str) -> None:
    """In single precision, where a variance as the difference of two averages can come out below 0."""
    random = np.random.default_rng(3)
    gradient = {"v": random.uniform(0.5, 200, size=1000), "m": random.normal(size=(8, 4)), "none": np.zeros(3)}
    gradient = jax.tree.map(lambda g: jnp.asarray(g, float), gradient)
    params = jax.tree.map(jnp.ones_like, gradient)
    transformation = Ascent(name).transformation()
    state, update = transformation.init(params), jax.jit(transformation.update)
    # A steady slope has no summit: estimates of the distance to it grow beyond all numbers.
    for _ in range(50 if name in ("dadapt_adam", "cocob") else 200):
        step, state = update(gradient, state, params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((step, state)))


@every_optimizer
def test_the_table_is_consistent(name: str) -> None:
    row = OPTIMIZERS[name]
    assert row.formula
    assert row.paper
    assert set(row.positive) <= set(row.defaults) <= {"momentum", "second_moment", "epsilon", "weight_decay"}
    assert not row.sums_gradients or "momentum" in row.defaults
    assert not row.floor or "epsilon" in row.defaults
