"""The optimizers: a table of what optax has, with one meaning for every field.

Every row is built from pieces of optax (or from its ready-made aliases where they put the step size last), descends,
and knows no weight decay but where its method needs it inside: ``rlgd.ascent`` turns the sign and decays the weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array
from optax import contrib

from rlgd.data import Scalar

Descent: TypeAlias = optax.GradientTransformation

LBFGS_MEMORY = 10
TRUST_COEFFICIENT = 1e-3  # LARS's eta
ADAN_DIFFERENCES = 0.92  # Adan's coefficient of the mean difference between gradients
ADABELIEF_ROOT = 1e-16  # what AdaBelief adds to its second moment


class Floor(NamedTuple):
    """Where an adaptive method keeps its second moment, and how epsilon bounds the denominator.

    Attributes:
        name: of the second moment in the optimizer's state.
        bound: from epsilon, what the second moment is compared with: at most that, epsilon decides the step.
        counter: the name of the number t of updates, where the second moment is divided by 1 - b^t first; else empty.
    """

    name: str
    bound: Callable[[Scalar], Scalar]
    counter: str = ""


class Optimizer(NamedTuple):
    """A row of the table of optimizers.

    Attributes:
        formula: the step that is added, for the gradient g of the objective at the parameters w, step size a, momentum
            m, second-moment coefficient b and epsilon e. A prime corrects the bias of an average that began at 0:
            v' = v / (1 - m^t), s' = s / (1 - b^t).
        build: makes the optax transformation from the step size and the fields named in ``defaults``.
        defaults: the fields that the optimizer uses and the values they take when they are left at None.
        paper: where it comes from.
        moment: the name of the first moment in the optimizer's state; empty if it keeps none.
        undamped: momentum adds gradients up instead of averaging them: a steady gradient moves the parameters by
            learning_rate / (1 - momentum) a step.
        floor: how epsilon bounds the step, for methods that divide each parameter's step by a second moment.
        relative: counting updates from each new rollout on (Adam-Rel) shortens the first steps there, as in Adam.
        decays: ``build`` takes ``weight_decay``, which belongs inside.
        excludes: fields and settings that have no effect on it, or a wrong one.
        positive: fields that may not be 0.
    """

    formula: str
    build: Callable[..., Descent]
    defaults: dict[str, float]
    paper: str
    moment: str = ""
    undamped: bool = False
    floor: Floor | None = None
    relative: bool = False
    decays: bool = False
    excludes: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()


def _scaled(learning_rate: Scalar, *parts: Descent) -> Descent:
    """The step size comes last, as in PyTorch: a schedule then acts on the whole step."""
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate))


def _rmsprop(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    rms = optax.scale_by_rms(decay=second_moment, eps=epsilon, eps_in_sqrt=True)
    return _scaled(learning_rate, rms, optax.trace(decay=momentum))


def _rmsprop_centred(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    inner = optax.scale_by_stddev(decay=second_moment, eps=epsilon, eps_in_sqrt=True)

    # optax takes the root of s - u^2 + e, which rounding makes negative where gradients are steady.
    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        _, state = inner.update(gradient, state)
        variance = jax.tree.map(lambda s, u: jnp.maximum(s - u * u, 0), state.nu, state.mu)
        return jax.tree.map(lambda g, v: g * jax.lax.rsqrt(v + epsilon), gradient, variance), state

    deviation = optax.GradientTransformation(inner.init, update)
    return _scaled(learning_rate, deviation, optax.trace(decay=momentum))


def _adam_like(alias: Callable[..., Descent], **fixed: Any) -> Callable[..., Descent]:
    def build(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
        return alias(learning_rate, b1=momentum, b2=second_moment, eps=epsilon, **fixed)

    return build


def _yogi(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    inner = optax.scale_by_yogi(b1=momentum, b2=second_moment, eps=epsilon)

    # optax begins the first moment at 1e-6, too: without any gradient the parameters would move.
    def init(params: Any) -> Any:
        return inner.init(params)._replace(mu=jax.tree.map(jnp.zeros_like, params))

    return _scaled(learning_rate, optax.GradientTransformation(init, inner.update))


class AdanState(NamedTuple):
    """Averages ``m`` of gradients, ``v`` of their differences, ``n`` of squares; the last gradient ``g``; updates t."""

    m: Any
    v: Any
    n: Any
    g: Any
    t: Array


def _adan(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    """Not optax's, which weighs the differences by 0.08 where the paper and its authors' code have 0.92."""

    def init(params: Any) -> AdanState:
        zero = jax.tree.map(jnp.zeros_like, params)
        return AdanState(zero, zero, zero, zero, jnp.zeros((), jnp.int32))

    def update(gradient: Any, state: AdanState, params: Any = None) -> tuple[Any, AdanState]:
        kept = ADAN_DIFFERENCES
        difference = jax.tree.map(lambda g, last: jnp.where(state.t == 0, 0, g - last), gradient, state.g)
        m = optax.tree.update_moment(gradient, state.m, momentum, 1)
        v = optax.tree.update_moment(difference, state.v, kept, 1)
        ahead = jax.tree.map(lambda g, d: g + kept * d, gradient, difference)
        n = optax.tree.update_moment_per_elem_norm(ahead, state.n, second_moment, 2)
        t = state.t + 1
        averages = zip((m, v, n), (momentum, kept, second_moment), strict=True)
        m_hat, v_hat, n_hat = (optax.tree.bias_correction(average, decay, t) for average, decay in averages)
        step = jax.tree.map(lambda m, v, n: (m + kept * v) / (jnp.sqrt(n) + epsilon), m_hat, v_hat, n_hat)
        return step, AdanState(m, v, n, gradient, t)

    return _scaled(learning_rate, optax.GradientTransformation(init, update))


def _lars(learning_rate: Scalar, momentum: Scalar) -> Descent:
    trust = optax.scale_by_trust_ratio(trust_coefficient=TRUST_COEFFICIENT)
    return _scaled(learning_rate, trust, optax.trace(decay=momentum))


def _sm3(learning_rate: Scalar, momentum: Scalar) -> Descent:
    inner = optax.scale_by_sm3(b1=momentum)

    # optax's has no case for numbers, which have no axis to keep a maximum of.
    def vectors(tree: Any) -> Any:
        return jax.tree.map(jnp.atleast_1d, tree)

    def init(params: Any) -> Any:
        return inner.init(vectors(params))._replace(nu=jax.tree.map(jnp.zeros_like, params))

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        step, state = inner.update(vectors(gradient), state._replace(nu=vectors(state.nu)))
        step = jax.tree.map(lambda x, g: x.reshape(g.shape), step, gradient)
        return step, state._replace(nu=step)  # the step is the first moment

    return _scaled(learning_rate, optax.GradientTransformation(init, update))


def _adafactor(learning_rate: Scalar, momentum: Scalar, epsilon: Scalar) -> Descent:
    return _scaled(
        learning_rate,
        optax.scale_by_factored_rms(epsilon=epsilon),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
        optax.ema(momentum, debias=False),
    )


def _muon(learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar) -> Descent:
    return contrib.muon(learning_rate, beta=momentum, adam_b1=momentum, adam_b2=second_moment, eps=epsilon)


def _schedule_free_sgd(learning_rate: Scalar, momentum: Scalar, weight_decay: Scalar) -> Descent:
    base = _scaled(learning_rate, optax.add_decayed_weights(weight_decay))
    return contrib.schedule_free(base, learning_rate, b1=momentum)


def _schedule_free_adamw(
    learning_rate: Scalar, momentum: Scalar, second_moment: Scalar, epsilon: Scalar, weight_decay: Scalar
) -> Descent:
    rms = optax.scale_by_rms(decay=second_moment, eps=epsilon, eps_in_sqrt=False, bias_correction=True)
    base = _scaled(learning_rate, rms, optax.add_decayed_weights(weight_decay))
    return contrib.schedule_free(base, learning_rate, b1=momentum)


def _lbfgs(learning_rate: Scalar) -> Descent:
    inner = optax.scale_by_lbfgs(memory_size=LBFGS_MEMORY)

    # Where the objective curves the other way, which a line search would have kept out of the memory, H turns around.
    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        direction, state = inner.update(gradient, state, params)
        same_side = optax.tree.vdot(direction, gradient) > 0
        shorter = 1 / jnp.maximum(optax.tree.norm(gradient), 1)  # as optax takes the first step
        return jax.tree.map(lambda d, g: jnp.where(same_side, d, shorter * g), direction, gradient), state

    return _scaled(learning_rate, optax.GradientTransformation(inner.init, update))


def _square(epsilon: Scalar) -> Scalar:
    return epsilon * epsilon


def _itself(epsilon: Scalar) -> Scalar:
    return epsilon


ADAM_DEFAULTS = {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-8}
ADAM: dict[str, Any] = {"moment": "mu", "floor": Floor("nu", _square, "count")}

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer("a g", optax.sgd, {}, "Robbins & Monro 1951", excludes=("reset", "decay")),  # nothing to forget
    "momentum": Optimizer(
        "a v;  v = m v + g",
        lambda learning_rate, momentum: _scaled(learning_rate, optax.trace(decay=momentum)),
        {"momentum": 0.9},
        "Polyak 1964 (heavy ball)",
        moment="trace",
        undamped=True,
    ),
    "nesterov": Optimizer(
        "a (m v + g);  v = m v + g",
        lambda learning_rate, momentum: _scaled(learning_rate, optax.trace(decay=momentum, nesterov=True)),
        {"momentum": 0.9},
        "Nesterov 1983; Sutskever et al. 2013",
        moment="trace",
        undamped=True,
    ),
    "rmsprop": Optimizer(
        "a v;  v = m v + g / sqrt(s + e);  s = b s + (1 - b) g^2",
        _rmsprop,
        {"momentum": 0.0, "second_moment": 0.9, "epsilon": 1e-8},
        "Tieleman & Hinton 2012",
        moment="trace",
        undamped=True,
        floor=Floor("nu", _itself),
    ),
    "rmsprop_centred": Optimizer(
        "a v;  v = m v + g / sqrt(s - u^2 + e);  s = b s + (1 - b) g^2;  u = b u + (1 - b) g",
        _rmsprop_centred,
        {"momentum": 0.0, "second_moment": 0.9, "epsilon": 1e-8},
        "Graves 2013, arXiv 1308.0850",
        moment="trace",
        undamped=True,
    ),
    "adagrad": Optimizer(
        "a g / sqrt(s + e);  s = s + g^2, from 0.1",
        lambda learning_rate, epsilon: optax.adagrad(learning_rate, eps=epsilon),
        {"epsilon": 1e-7},
        "Duchi, Hazan & Singer 2011",
        floor=Floor("sum_of_squares", _itself),
    ),
    "adadelta": Optimizer(
        "a d;  d = g sqrt(u + e) / sqrt(s + e);  s = b s + (1 - b) g^2;  u = b u + (1 - b) d^2",
        lambda learning_rate, second_moment, epsilon: optax.adadelta(learning_rate, second_moment, epsilon),
        {"second_moment": 0.9, "epsilon": 1e-6},
        "Zeiler 2012, arXiv 1212.5701",
        floor=Floor("e_g", _itself),
    ),
    "adam": Optimizer(
        "a v' / (sqrt(s') + e);  v = m v + (1 - m) g;  s = b s + (1 - b) g^2",
        _adam_like(optax.adam),
        ADAM_DEFAULTS,
        "Kingma & Ba 2015, arXiv 1412.6980",
        **ADAM,
        relative=True,
    ),
    "adamw": Optimizer(
        "adam's step - a weight_decay w",
        _adam_like(optax.adam),
        ADAM_DEFAULTS | {"weight_decay": 1e-4},
        "Loshchilov & Hutter 2019, arXiv 1711.05101",
        **ADAM,
        relative=True,
    ),
    "nadam": Optimizer(
        "a (m v'' + (1 - m) g') / (sqrt(s') + e);  v, s as in adam;  v'' = v / (1 - m^(t+1));  g' = g / (1 - m^t)",
        _adam_like(optax.nadam),
        ADAM_DEFAULTS,
        "Dozat 2016",
        **ADAM,
        relative=True,
    ),
    "nadamw": Optimizer(
        "nadam's step - a weight_decay w",
        _adam_like(optax.nadam),
        ADAM_DEFAULTS | {"weight_decay": 1e-4},
        "Dozat 2016; Loshchilov & Hutter 2019",
        **ADAM,
        relative=True,
    ),
    "amsgrad": Optimizer(
        "a v' / (sqrt(max of all s' so far) + e);  v, s as in adam",
        _adam_like(optax.amsgrad),
        ADAM_DEFAULTS,
        "Reddi, Kale & Kumar 2018, arXiv 1904.09237",
        moment="mu",
        floor=Floor("nu_max", _square),
    ),
    "adamax": Optimizer(
        "a v' / s;  v as in adam;  s = max(b s, |g| + e)",
        _adam_like(optax.adamax),
        ADAM_DEFAULTS,
        "Kingma & Ba 2015, arXiv 1412.6980",
        moment="mu",
        floor=Floor("nu", lambda epsilon: 2 * epsilon),
    ),
    "radam": Optimizer(
        "adam's step times r(t);  a v' while t is too small (5 or so updates) to know s",
        _adam_like(optax.radam),
        ADAM_DEFAULTS,
        "Liu et al. 2020, arXiv 1908.03265",
        **ADAM,
    ),
    "adabelief": Optimizer(
        "a v' / (sqrt(s') + e);  v as in adam;  s = b s + (1 - b) (g - v)^2 + 1e-16",
        _adam_like(optax.adabelief, eps_root=ADABELIEF_ROOT),
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-16},
        "Zhuang et al. 2020, arXiv 2010.07468",
        **ADAM,
        relative=True,
        positive=("momentum",),  # with 0 no gradient is a surprise: g - v is always 0
    ),
    "adan": Optimizer(
        "a (v' + 0.92 d') / (sqrt(s') + e);  v as in adam;  d averages g - g_before by 0.92;  "
        "s = b s + (1 - b) (g + 0.92 (g - g_before))^2",
        _adan,
        {"momentum": 0.98, "second_moment": 0.99, "epsilon": 1e-8},
        "Xie et al. 2022, arXiv 2208.06677",
        moment="m",
        floor=Floor("n", _square, "t"),
    ),
    "yogi": Optimizer(
        "a v' / (sqrt(s') + e);  v as in adam;  s = s - (1 - b) sign(s - g^2) g^2, from 1e-6",
        _yogi,
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-3},
        "Zaheer et al. 2018",
        **ADAM,
        relative=True,
    ),
    "lion": Optimizer(
        "a sign(m v + (1 - m) g);  then v = b v + (1 - b) g  (b, second_moment, averages gradients, not squares)",
        lambda learning_rate, momentum, second_moment: optax.lion(
            learning_rate, b1=momentum, b2=second_moment, weight_decay=0.0
        ),
        {"momentum": 0.9, "second_moment": 0.99},
        "Chen et al. 2023, arXiv 2302.06675",
        moment="mu",
    ),
    "signum": Optimizer(
        "a sign(v);  v = m v + (1 - m) g",
        lambda learning_rate, momentum: _scaled(
            learning_rate, optax.ema(momentum, debias=False), optax.scale_by_sign()
        ),
        {"momentum": 0.9},
        "Bernstein et al. 2018, arXiv 1802.04434",
        moment="ema",
    ),
    "novograd": Optimizer(
        "a v;  v = m v + g / (sqrt(s) + e);  s = |g|^2 at first, then b s + (1 - b) |g|^2, a number for each array",
        _adam_like(optax.novograd),
        {"momentum": 0.9, "second_moment": 0.25, "epsilon": 1e-6},
        "Ginsburg et al. 2019, arXiv 1905.11286",
        moment="mu",
        undamped=True,
    ),
    "lamb": Optimizer(
        "a |w| d / |d| for each array;  d = adam's v' / (sqrt(s') + e);  a d where w = 0",
        _adam_like(optax.lamb),
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-6},
        "You et al. 2020, arXiv 1904.00962",
        **ADAM,
    ),
    "lars": Optimizer(
        "a v;  v = m v + 0.001 |w| g / |g| for each array;  v = m v + g where w = 0",
        _lars,
        {"momentum": 0.9},
        "You, Gitman & Ginsburg 2017, arXiv 1708.03888",
        moment="trace",
        undamped=True,
    ),
    "sm3": Optimizer(
        "a v;  v = m v + (1 - m) g / sqrt(s + 1e-8);  s = g^2 + the least of the row's and the column's largest s "
        "so far, for vectors the sum of all g^2",
        _sm3,
        {"momentum": 0.9},
        "Anil et al. 2019, arXiv 1901.11150",
        moment="nu",  # optax's name for it
    ),
    "adafactor": Optimizer(
        "a v;  v = m v + (1 - m) max(rms(w), 0.001) d;  d = g / sqrt(s), shortened to rms 1;  "
        "s averages g^2 + e by 1 - t^-0.8, large arrays' by rows and columns",
        _adafactor,
        {"momentum": 0.0, "epsilon": 1e-30},
        "Shazeer & Stern 2018, arXiv 1804.04235",
        moment="ema",
    ),
    "muon": Optimizer(
        "a sqrt(max(1, columns / rows)) orthogonalized(m v'' + (1 - m) g') for matrices, v as in nadam;  "
        "nadam's step for the rest",
        _muon,
        {"momentum": 0.95, "second_moment": 0.999, "epsilon": 1e-8},
        "Jordan et al. 2024 (kellerjordan.github.io/posts/muon)",
        moment="mu",
    ),
    "schedule_free_sgd": Optimizer(
        "from w to m x + (1 - m) z;  z = z + a (g - weight_decay w);  x averages all z, weighted by the square of "
        "the largest a so far",
        _schedule_free_sgd,
        {"momentum": 0.9},
        "Defazio et al. 2024, arXiv 2405.15682",
        decays=True,
        # What x is, is found from the parameters and z by the momentum of the time.
        excludes=("momentum_schedule",),
        positive=("momentum",),
    ),
    "schedule_free_adamw": Optimizer(
        "from w to m x + (1 - m) z;  z = z + a (g / (sqrt(s') + e) - weight_decay w);  x averages all z, "
        "weighted by the square of the largest a so far",
        _schedule_free_adamw,
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-8, "weight_decay": 1e-4},
        "Defazio et al. 2024, arXiv 2405.15682",
        floor=Floor("nu", _square, "count"),
        decays=True,
        # What x is, is found from the parameters and z by the momentum of the time.
        excludes=("momentum_schedule",),
        positive=("momentum",),
    ),
    "lbfgs": Optimizer(
        f"a H g, or a g / max(1, |g|) at first and where H g is not uphill;  H: the inverse curvature that the last "
        f"{LBFGS_MEMORY} steps showed",
        _lbfgs,
        {},
        "Liu & Nocedal 1989",
        excludes=("decay",),  # it remembers positions: a share of them is another curvature
    ),
}


def _held(state: Any, name: str) -> list[Any]:
    """What the parts of an optimizer's state keep under a name; parameters may have that name too."""

    def is_part_of_state(path: Any, value: Any) -> bool:
        return isinstance(path[-1], optax.tree_utils.NamedTupleKey)

    return [value for _, value in optax.tree.get_all_with_path(state, name, is_part_of_state)]


def first_moment(name: str, state: Any) -> Any:
    """The average (or sum) of past gradients of the objective that the optimizer's state holds; None if none."""
    if not (key := OPTIMIZERS[name].moment):
        return None

    def masked(leaf: Any) -> bool:
        return isinstance(leaf, optax.MaskedNode)

    # Muon keeps those of matrices and those of the rest in two trees that are masked where the other is not.
    merged, *others = _held(state, key)
    for other in others:
        merged = jax.tree.map(lambda a, b: b if masked(a) else a, merged, other, is_leaf=masked)
    return jax.tree.map(jnp.negative, merged)


def epsilon_share(name: str, state: Any, second_moment: Scalar | None, epsilon: Scalar | None) -> Array | None:
    """The share of parameters whose step epsilon decides, in [0, 1]: whose second moment is not above it.

    None for optimizers that do not divide each parameter's step by a second moment.
    """
    floor = OPTIMIZERS[name].floor
    if floor is None or epsilon is None:
        return None
    moments = jax.tree.leaves(_held(state, floor.name)[0])
    bound = floor.bound(epsilon)
    if floor.counter and second_moment is not None:
        updates = _held(state, floor.counter)[0].astype(moments[0].dtype)
        bound = bound * (1 - jnp.power(second_moment, updates))
    low = sum(jnp.sum(moment <= bound) for moment in moments)
    return jnp.asarray(low, moments[0].dtype) / sum(moment.size for moment in moments)
