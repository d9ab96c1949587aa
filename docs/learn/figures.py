"""The figures of the chapters in this folder, and the numbers that the chapters quote.

    python docs/learn/figures.py [CHAPTER ...]

Every figure measures rlgd against the exact gradient, or the exact expected return, of a small grid world. Seeds are
fixed: the same machine writes the same files.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from jax import Array

from rlgd import training
from rlgd.agents import PPO, REINFORCE, TRPO
from rlgd.agents.base.agent import Agent
from rlgd.ascent import Ascent, apply_step, cosine
from rlgd.envs import DeviceEnv, make
from rlgd.exact import TabularMDP, compare, comparison
from rlgd.maths.returns import gae
from rlgd.pytrees import AgentState, LoopState

mpl.use("svg")
mpl.rcParams |= {
    "svg.hashsalt": "rlgd",
    "font.size": 10,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
from matplotlib import pyplot as plt  # noqa: E402  after the choice of the backend
from matplotlib.figure import Figure  # noqa: E402

FOLDER = Path(__file__).parent
SIDE, GAMMA, HORIZON = 4, 0.95, 20
CELLS, ACTIONS = SIDE * SIDE, 4
# Okabe & Ito's colours, which colour-blind readers can tell apart; the markers say the same once more.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v")


def grid_world(horizon: int | None) -> TabularMDP:
    """From one corner to the other, by up, down, left, right; each step costs 0.1, the goal pays 1; a third slips."""
    transition, reward = np.zeros((CELLS, ACTIONS, CELLS)), np.full((CELLS, ACTIONS), -0.1)
    for cell in range(CELLS):
        row, column = divmod(cell, SIDE)
        moves = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        landing = [min(max(r, 0), SIDE - 1) * SIDE + min(max(c, 0), SIDE - 1) for r, c in moves]
        for action in range(ACTIONS):
            for slipped in range(ACTIONS):
                transition[cell, action, landing[slipped]] += 1 / 12 + (2 / 3 if slipped == action else 0)
            reward[cell, action] += transition[cell, action, CELLS - 1]
    goal = np.arange(CELLS) == CELLS - 1
    return TabularMDP(transition, reward, np.eye(CELLS)[0], GAMMA, terminal=goal, horizon=horizon)


SHORT = grid_world(HORIZON)  # episodes of at most 20 steps, for agents that need whole episodes
ENDLESS = grid_world(None)  # until the goal, for agents that bootstrap where a rollout or a time limit ends
SHORT_ENV = make(SHORT.env, max_episode_steps=HORIZON)
ENDLESS_ENV = make(ENDLESS.env, max_episode_steps=100)


def linear(agent: type[Agent], **settings: Any) -> Agent:
    """An agent whose policy is a softmax of one number for each state and action, as the theory has it."""
    fixed = {"gamma": GAMMA, "hidden_sizes": (), "measure_every": 0}
    return agent(**(fixed | settings)).prepared()


def reinforce(**settings: Any) -> Agent:
    """REINFORCE, whose estimate is then unbiased for the discounted return."""
    return linear(REINFORCE, **({"discount_weighting": True} | settings))


def beginning(agent: Agent, env: DeviceEnv, seed: int = 0) -> LoopState:
    """The state before the first iteration."""
    return training.initialize(agent, env, jax.random.key(seed))


def with_value(state: AgentState, value: Array) -> AgentState:
    """The state with a value function of these numbers ``[CELLS]``."""
    tables = jax.tree.map(lambda x: value.reshape(x.shape) if x.size == CELLS else 0 * x, state.params.value)
    return dataclasses.replace(state, params=dataclasses.replace(state.params, value=tables))


def mean_and_error(values: Any) -> tuple[float, float]:
    """The mean of independent repetitions and its standard error."""
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def save(figure: Figure, name: str) -> None:
    """Write the figure; without a date the same numbers give the same file."""
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def series(axis: Any, number: int, x: Sequence[float], means: Any, errors: Any = None, **style: Any) -> None:
    """One line with two standard errors to each side."""
    spread = None if errors is None else 2 * np.asarray(errors)
    fixed = {"color": COLORS[number], "marker": MARKERS[number], "markersize": 5, "capsize": 2, "linewidth": 1.5}
    axis.errorbar(x, means, spread, **(fixed | style))


# ------------------------------------------------------------------------------------------------------------ gradient

BATCHES = (1, 16, 256)
REPETITIONS, SAMPLES = 4, 100


def gradient() -> None:
    """REINFORCE without a baseline, at its first policy: noise and cosine against the episodes in a batch."""
    rows = []
    for size in BATCHES:
        agent = reinforce(num_envs=size, baseline="none")
        state = beginning(agent, SHORT_ENV).agent_state
        errors = [compare(agent, SHORT_ENV, state, jax.random.key(k), SAMPLES) for k in range(REPETITIONS)]
        noise = mean_and_error([np.sqrt(e.variance) / e.gradient_norm for e in errors])
        angle = mean_and_error([e.cosine for e in errors])
        rows.append((*noise, *angle))
        print(f"  {size:4} episodes: noise {noise[0]:6.2f} +- {noise[1]:.2f}, cosine {angle[0]:.3f} +- {angle[1]:.3f}")
    print(f"  J {float(errors[0].objective):.3f}, best {SHORT.optimum().objective:.3f}")
    print(f"  length of the exact gradient {float(errors[0].gradient_norm):.3f}")
    noise, noise_error, angle, angle_error = np.transpose(rows)

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    smooth = np.geomspace(BATCHES[0], BATCHES[-1], 50)
    expected = noise[-1] * np.sqrt(BATCHES[-1] / smooth)
    axes[0].plot(smooth, expected, "--", color="gray", label="proportional to one over the root")
    series(axes[0], 0, BATCHES, noise, noise_error, linestyle="none", label="REINFORCE")
    axes[0].set(xscale="log", yscale="log", ylabel="standard deviation / length of gradient")
    axes[0].set_yticks((0.5, 1, 2, 5, 10), ("0.5", "1", "2", "5", "10"))
    axes[1].plot(smooth, 1 / np.sqrt(1 + expected**2), "--", color="gray", label=r"$1/\sqrt{1 + \mathrm{noise}^2}$")
    series(axes[1], 0, BATCHES, angle, angle_error, linestyle="none", label="REINFORCE")
    axes[1].set(xscale="log", ylim=(0, 1), ylabel="cosine to the exact gradient")
    for axis in axes:
        axis.set_xlabel("episodes in a batch")
        axis.set_xticks(BATCHES, map(str, BATCHES))
        axis.minorticks_off()
        axis.legend()
    save(figure, "gradient")


# ----------------------------------------------------------------------------------------------------------- baselines

CONSTANTS = (-2.0, -1.4, -0.8, -0.2, 0.4, 1.0)
EPISODES = 16


class Estimator(NamedTuple):
    """Of repeated estimates, over the length of the exact gradient.

    Attributes:
        noise: the standard deviation of one estimate.
        noise_error: its standard error.
        bias: the distance of the mean estimate from the exact gradient, over repetitions its root mean square.
        chance: what it would be without any bias.
    """

    noise: float
    noise_error: float
    bias: float
    chance: float


def baselines() -> None:
    """What is subtracted from the return: the variance changes, the expectation does not."""

    def measured(agent: Agent, state: AgentState) -> Estimator:
        errors = [compare(agent, SHORT_ENV, state, jax.random.key(k), 2 * SAMPLES) for k in range(REPETITIONS)]
        length = errors[0].gradient_norm
        noise, noise_error = mean_and_error([jnp.sqrt(e.variance) / length for e in errors])
        bias, chance = (
            float(np.sqrt(np.mean(np.square(x))) / length)
            for x in zip(*[(e.bias, e.bias_error) for e in errors], strict=True)
        )
        return Estimator(noise, noise_error, bias, chance)

    learner = reinforce(num_envs=EPISODES, value_learning_rate=0.02, ascent=Ascent("sgd", learning_rate=0.0))
    loop = beginning(learner, SHORT_ENV)
    iterate = jax.jit(lambda loop, _: (training.iterate(learner, SHORT_ENV, loop)[0], None))
    learned = jax.lax.scan(iterate, loop, length=300)[0].agent_state  # only the value function learns
    shifted = [measured(learner, _constant(loop.agent_state, c)) for c in CONSTANTS]
    # The variance is a parabola in the constant.
    parabola = np.polynomial.Polynomial.fit(CONSTANTS, [row.noise**2 for row in shifted], 2)
    best = float(parabola.deriv().roots()[0])
    named = {"none": measured(reinforce(num_envs=EPISODES, baseline="none"), loop.agent_state)}
    named[f"best constant\n{best:.2f}"] = measured(learner, _constant(loop.agent_state, best))
    named["mean of\nothers"] = measured(reinforce(num_envs=EPISODES, baseline="mean"), loop.agent_state)
    named["learned\nvalue"] = measured(learner, learned)
    for name, row in {**{f"constant {c}": r for c, r in zip(CONSTANTS, shifted, strict=True)}, **named}.items():
        words = name.replace("\n", " ")
        print(
            f"  {words:20} noise {row.noise:.2f} +- {row.noise_error:.2f}, bias {row.bias:.3f}, "
            f"by chance {row.chance:.3f}"
        )
    ratio = [(named["none"].noise / row.noise) ** 2 for row in named.values()]
    print("  variance without a baseline over that with it:", ", ".join(f"{x:.1f}" for x in ratio))

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained", width_ratios=(1, 1, 1))
    smooth = np.linspace(CONSTANTS[0], CONSTANTS[-1], 100)
    axes[0].plot(smooth, np.sqrt(parabola(smooth)), "--", color="gray")
    noise, error, *_ = np.transpose(shifted)
    series(axes[0], 0, CONSTANTS, noise, error, linestyle="none")
    axes[0].set(xlabel="constant baseline", ylabel="standard deviation / length of gradient", ylim=(0, None))
    noise, error, bias, chance = np.transpose(list(named.values()))
    places = np.arange(len(named))
    axes[1].bar(places, noise, yerr=2 * error, color=COLORS[0], capsize=3, width=0.6)
    axes[1].set(ylabel="standard deviation / length of gradient")
    axes[2].bar(places, chance, color="lightgray", width=0.6, label="size of chance alone")
    axes[2].plot(places, bias, "o", color=COLORS[1], label="measured bias")
    axes[2].set(ylabel="bias / length of gradient", ylim=(0, 1.6 * max(*bias, *chance)))
    axes[2].legend()
    for axis in axes[1:]:
        axis.set_xticks(places, named, fontsize=8)
    save(figure, "baselines")


def _constant(state: AgentState, value: float) -> AgentState:
    """The state with the same value everywhere."""
    return with_value(state, jnp.full(CELLS, value))


# ---------------------------------------------------------------------------------------------------------- advantages

LAMBDAS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
LENGTH, ROLLOUTS = 150, 2000  # after 150 steps the discount is 0.95^150 = 0.0005
WRONG = (0.0, 0.25, 0.5)  # standard deviation of the error in the values, over that of the values
SIZES = (16, 256, 4096)


def advantages() -> None:
    """GAE: bias and noise against lambda, for values that are exact and values that are wrong by a known amount."""
    policy = jnp.full((CELLS, ACTIONS), 1 / ACTIONS)
    value, visits = ENDLESS.value(policy), ENDLESS.visits(policy)
    scores = jnp.eye(ACTIONS) - policy[:, None]  # [CELLS, ACTIONS, ACTIONS], of the logits of a state
    exact = np.asarray(jnp.einsum("s,sa,sa,sab->sb", visits, policy, ENDLESS.action_value(policy), scores))
    length = np.linalg.norm(exact)
    spread = float(jnp.std(value[:-1]))
    errors = np.random.default_rng(0).normal(size=(20, CELLS)) * (np.arange(CELLS) < CELLS - 1)  # V(goal) is 0
    states, actions, rewards, following = _trajectories(jax.random.key(0))
    ended = jnp.asarray(ENDLESS.terminal)[following]
    started = jnp.cumsum(ended, axis=0) - ended == 0  # rows up to the end of the episode
    weight = jnp.where(started, GAMMA ** jnp.arange(LENGTH)[:, None], 0)

    def bias(guess: Array, gae_lambda: float) -> Array:
        """Expected gradient minus the exact one: the expectation of GAE solves a linear equation."""
        following = jnp.asarray(ENDLESS.transition) * ~jnp.asarray(ENDLESS.terminal)
        delta = jnp.asarray(ENDLESS.reward) + GAMMA * following @ guess - guess[:, None]
        chain = jnp.einsum("sa,sat->st", policy, following)
        mean = jnp.linalg.solve(jnp.eye(CELLS) - GAMMA * gae_lambda * chain, jnp.sum(policy * delta, axis=1))
        advantage = delta + GAMMA * gae_lambda * following @ mean
        return jnp.linalg.norm(jnp.einsum("s,sa,sa,sab->sb", visits, policy, advantage, scores) - exact)

    def deviation(guess: Array, gae_lambda: float) -> Array:
        """Of the estimate from one episode."""
        never = jnp.zeros_like(ended)
        advantage, _ = gae(rewards, guess[states], guess[following], ended, never, GAMMA, gae_lambda)
        rows = (weight * advantage)[..., None] * scores[states, actions]
        columns = jnp.arange(ROLLOUTS)
        estimates = jnp.zeros((ROLLOUTS, CELLS, ACTIONS)).at[columns[None], states].add(rows)
        return jnp.sqrt(jnp.sum(jnp.var(estimates, axis=0, ddof=1)))

    def table(function: Callable[[Array, float], Array], guesses: np.ndarray) -> np.ndarray:
        """``[lambdas, guesses]``, over the length of the exact gradient."""
        over_guesses = jax.jit(lambda x: jax.lax.map(lambda guess: function(guess, x), jnp.asarray(guesses)))
        return np.stack([over_guesses(jnp.float32(x)) for x in LAMBDAS]) / length

    biases, noises = {}, {}
    for wrong in WRONG:
        guesses = np.asarray(value)[None] + wrong * spread * errors[: 20 if wrong else 1]
        biases[wrong], noises[wrong] = table(bias, guesses), table(deviation, guesses[:4])
        shown = zip(LAMBDAS, biases[wrong].mean(axis=1), noises[wrong].mean(axis=1), strict=True)
        print(f"  values wrong by {wrong} of their spread; lambda: bias, noise of one episode")
        print("   ", ", ".join(f"{x}: {b:.3f}, {d:.2f}" for x, b, d in shown))
    totals = {n: np.sqrt(np.mean(biases[0.5] ** 2, axis=1) + np.mean(noises[0.5] ** 2, axis=1) / n) for n in SIZES}
    for n, total in totals.items():
        print(f"  {n} episodes: error {', '.join(f'{x}: {e:.3f}' for x, e in zip(LAMBDAS, total, strict=True))}")

    places = np.arange(len(LAMBDAS))
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    for number, wrong in enumerate(WRONG):
        label = f"values wrong by {wrong:.0%} of their spread" if wrong else "exact values"
        drawn = [mean_and_error(row) if wrong else (row[0], 0.0) for row in biases[wrong]]
        series(axes[0], number, places, *np.transpose(drawn), label=label)
        series(axes[1], number, places, noises[wrong].mean(axis=1), label=label)
    for number, (n, total) in enumerate(totals.items()):
        series(axes[2], number, places, total, label=f"{n:,} episodes")
        axes[2].plot(places[total.argmin()], total.min(), "o", markersize=13, fillstyle="none", color=COLORS[number])
    axes[0].set(title="bias", ylabel="over the length of the gradient", ylim=(0, None))
    axes[1].set(title="standard deviation, one episode", ylim=(0, None))
    axes[2].set(title="total error, values 50% wrong", yscale="log")
    for axis in axes:
        axis.set_xlabel(r"$\lambda$")
        axis.set_xticks(places, map(str, LAMBDAS))
        axis.title.set_fontsize(10)
    axes[0].legend(fontsize=8)
    axes[2].legend(fontsize=8)
    save(figure, "advantages")


@jax.jit
def _trajectories(key: Array) -> tuple[Array, Array, Array, Array]:
    """States, actions, rewards and following states of the uniform policy, ``[LENGTH, ROLLOUTS]``."""
    transition, reward = jnp.log(jnp.asarray(ENDLESS.transition)), jnp.asarray(ENDLESS.reward)

    def step(state: Array, key: Array) -> tuple[Array, tuple[Array, ...]]:
        of_action, of_state = jax.random.split(key)
        action = jax.random.randint(of_action, state.shape, 0, ACTIONS)
        following = jax.random.categorical(of_state, transition[state, action])
        return following, (state, action, reward[state, action], following)

    return jax.lax.scan(step, jnp.zeros(ROLLOUTS, int), jax.random.split(key, LENGTH))[1]


# ------------------------------------------------------------------------------------------------------------ momentum

MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
EFFECTIVE_STEPS = (0.01, 0.03, 0.1)
LEARNING_RATE = 0.01
UPDATES, SEEDS = 300, 8


def momentum() -> None:
    """Heavy ball on REINFORCE with 4 episodes: the angle of its step, and how far it climbs."""

    def agent_with(step: float, momentum: float, effective: bool) -> Agent:
        rate = step * (1 - momentum) if effective else step
        return reinforce(num_envs=4, baseline="mean", ascent=Ascent("momentum", learning_rate=rate, momentum=momentum))

    def trained(agent: Agent, seed: Array) -> tuple[Array, Array]:
        def update(loop: LoopState, _: None) -> tuple[LoopState, tuple[Array, Array]]:
            policy = loop.agent_state.params.policy
            to_policy = comparison.policy_of(agent, SHORT_ENV.spec, SHORT, loop.agent_state)
            exact = SHORT.gradient(to_policy, policy)
            loop, _ = training.iterate(agent, SHORT_ENV, loop)
            step = jax.tree.map(jnp.subtract, loop.agent_state.params.policy, policy)
            return loop, (cosine(step, exact), SHORT.objective(to_policy(policy)))

        loop = training.initialize(agent, SHORT_ENV, jax.random.fold_in(jax.random.key(0), seed))
        return jax.lax.scan(update, loop, length=UPDATES)[1]

    settings = [(step, m, True) for step in EFFECTIVE_STEPS for m in MOMENTA]
    settings += [(LEARNING_RATE, m, False) for m in MOMENTA]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(agent_with(*s) for s in settings))
    over_seeds = jax.vmap(trained, in_axes=(None, 0))
    angles, heights = jax.jit(jax.vmap(over_seeds, in_axes=(0, None)))(stacked, jnp.arange(SEEDS))
    shape = (len(EFFECTIVE_STEPS) + 1, len(MOMENTA), SEEDS)
    angle = np.asarray(angles)[..., 100:].mean(axis=-1).reshape(shape)
    height = np.asarray(heights)[..., 100:].mean(axis=-1).reshape(shape)
    best = SHORT.optimum().objective
    print(f"  J at first {float(heights[0, 0, 0]):.3f}, best {best:.3f}; updates 100 to {UPDATES}:")
    names = [f"effective step {s}" for s in EFFECTIVE_STEPS] + [f"learning rate {LEARNING_RATE}"]
    for name, a, h in zip(names, angle, height, strict=True):
        print(f"  {name:20} cosine", ", ".join(f"{m}: {x:.2f}" for m, x in zip(MOMENTA, a.mean(axis=1), strict=True)))
        print(f"  {name:20} J     ", ", ".join(f"{m}: {x:.2f}" for m, x in zip(MOMENTA, h.mean(axis=1), strict=True)))

    places = np.arange(len(MOMENTA))
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    tangent = 1 / angle[0, 0].mean() ** 2 - 1  # noise over signal of a single estimate, squared
    averaged = [1 / np.sqrt(1 + tangent * (1 - m) / (1 + m)) for m in MOMENTA]
    print("  if only noise counted:", ", ".join(f"{m}: {x:.2f}" for m, x in zip(MOMENTA, averaged, strict=True)))
    axes[0].plot(places, averaged, "--", color="gray", label="if the policy stood still")
    for number, name in enumerate(names):
        style = {"label": name, "linestyle": "-" if number < len(EFFECTIVE_STEPS) else ":"}
        for axis, values in zip(axes, (angle, height), strict=True):
            series(axis, number, places, *np.transpose([mean_and_error(row) for row in values[number]]), **style)
    axes[0].set(ylabel="cosine of the step to the exact gradient")
    axes[1].axhline(best, color="gray", linewidth=1)
    axes[1].set(ylabel=f"exact J, mean of updates 100 to {UPDATES}")
    for axis in axes:
        axis.set_xlabel("momentum")
        axis.set_xticks(places, map(str, MOMENTA))
    axes[0].set_ylim(0, 1.02)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    save(figure, "momentum")


# --------------------------------------------------------------------------------------------------- natural gradients

MAX_KLS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
TRPO_ENVS, TRPO_LENGTH, TRPO_ROLLOUTS = (4, 64), 64, 16
EXACT_STEPS, STEP_KL = 20, 0.01


def natural_gradients() -> None:
    """Plain against natural ascent with exact gradients, and one TRPO step against its trust region."""
    heights = {(name, scaled): _exact_climb(name, scaled) for name in ("plain", "natural") for scaled in (False, True)}
    best = ENDLESS.optimum().objective
    print(f"  best J {best:.3f}")
    for (name, scaled), path in heights.items():
        near = int(np.argmax(path > best - 0.1)) if (path > best - 0.1).any() else "never"
        shown = ", ".join(f"{n}: {path[n]:.3f}" for n in (0, 5, 10, EXACT_STEPS))
        print(f"  {name}, scaled {scaled}: J after {shown}; within 0.1 of the best after {near}")
    gains = {num_envs: _trpo_gains(num_envs) for num_envs in TRPO_ENVS}
    for num_envs, (gain, kl) in gains.items():
        print(f"  TRPO, {num_envs * TRPO_LENGTH} rows, max_kl: gain of J +- error, least of {TRPO_ROLLOUTS}, exact KL")
        for bound, g, k in zip(MAX_KLS, gain, kl, strict=True):
            mean, error = mean_and_error(g)
            print(f"    {bound:6}: {mean:7.4f} +- {error:.4f}, least {g.min():7.3f}, KL {k.mean():.4f}")

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for number, ((name, scaled), path) in enumerate(heights.items()):
        label = f"{name}, " + ("half of the logits scaled" if scaled else "logits")
        style = {"linestyle": (0, (2, 2)), "linewidth": 2.5} if scaled else {"linewidth": 5 - 3.5 * (name == "natural")}
        axes[0].plot(path, color=COLORS[number], label=label, **style)
    axes[0].axhline(best, color="gray", linewidth=1)
    axes[0].set_xticks(range(0, EXACT_STEPS + 1, 5))
    axes[0].set(xlabel=f"steps of {STEP_KL} nats each, exact gradients", ylabel="exact J")
    for number, (num_envs, (gain, _)) in enumerate(gains.items()):
        drawn = np.transpose([mean_and_error(row) for row in gain])
        series(axes[1], number, MAX_KLS, *drawn, label=f"{num_envs * TRPO_LENGTH:,} rows in a rollout")
    axes[1].set(xscale="log", ylim=(0, None), xlabel="max_kl, nats", ylabel="gain of exact J in one step of TRPO")
    for axis in axes:
        axis.legend()
    save(figure, "natural-gradients")


def _exact_climb(name: str, scaled: bool) -> np.ndarray:
    """J before the first and after each step of exact ascent; to second order all steps have the same KL.

    ``scaled``: the logits of every other state are a tenth of the parameter.
    """
    scale = jnp.where(jnp.arange(CELLS) % 2 == 1, 0.1, 1.0)[:, None] if scaled else jnp.ones((CELLS, 1))
    transformation = Ascent("sgd", learning_rate=1.0).transformation()
    direction = ENDLESS.gradient if name == "plain" else ENDLESS.natural_gradient

    def policy_of(table: Array) -> Array:
        return jax.nn.softmax(scale * table, axis=1)

    def step(table: Array, _: None) -> tuple[Array, Array]:
        def divergence(new: Array) -> Array:
            return mean_divergence(policy_of(table), policy_of(new))

        along = direction(policy_of, table)
        curvature = jnp.vdot(along, jax.jvp(jax.grad(divergence), (table,), (along,))[1])
        given = jnp.sqrt(2 * STEP_KL / curvature) * along
        change, _ = transformation.update(given, transformation.init(table), table)
        return apply_step(table, change), ENDLESS.objective(policy_of(table))

    with jax.enable_x64(True):
        start = jnp.zeros((CELLS, ACTIONS))
        return np.asarray(jax.jit(lambda: jax.lax.scan(step, start, length=EXACT_STEPS + 1)[1])())


def mean_divergence(before: Array, after: Array) -> Array:
    """KL(before || after) in nats, over the discounted visits of the policy ``before``."""
    visits = jax.lax.stop_gradient(ENDLESS.visits(before))
    return jnp.sum(visits[:, None] * before * jnp.log(before / after)) / jnp.sum(visits)


def stacked(agents: Sequence[Agent]) -> Agent:
    """One agent whose numbers have a leading axis."""
    return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x]), *agents)


@jax.jit
def policy_changes(before: Array, after: Array) -> tuple[Array, Array]:
    """By how much exact J rises from policy to policy, both ``[..., CELLS, ACTIONS]``, and KL(old || new) in nats."""

    def change(before: Array, after: Array) -> tuple[Array, Array]:
        return ENDLESS.objective(after) - ENDLESS.objective(before), mean_divergence(before, after)

    pairs = before.reshape(-1, CELLS, ACTIONS), after.reshape(-1, CELLS, ACTIONS)
    flat = jax.lax.map(lambda pair: change(*pair), pairs)
    return jax.tree.map(lambda x: x.reshape(before.shape[:-2]), flat)


LINEAR_AGENT = linear(PPO)  # all agents here have the same policy


@jax.jit
def tables(states: AgentState) -> Array:
    """The policies of states with two leading axes, ``[..., CELLS, ACTIONS]``."""

    def table(state: AgentState) -> Array:
        return comparison.policy_of(LINEAR_AGENT, ENDLESS_ENV.spec, ENDLESS, state)(state.params.policy)

    return jax.vmap(jax.vmap(table))(states)


def beginnings(agent: Agent, settings: int, number: int) -> LoopState:
    """First states, ``[settings, number]``, the same in all settings."""
    begin = jax.jit(jax.vmap(lambda key: training.initialize(agent, ENDLESS_ENV, key)))
    loops = begin(jax.random.split(jax.random.key(0), number))
    return jax.tree.map(lambda x: jnp.broadcast_to(x[None], (settings, *x.shape)), loops)


def informed(loops: LoopState) -> LoopState:
    """The states with the exact values of the uniform policy."""
    value = ENDLESS.value(jnp.full((CELLS, ACTIONS), 1 / ACTIONS))
    states = jax.vmap(jax.vmap(lambda state: with_value(state, value)))(loops.agent_state)
    return dataclasses.replace(loops, agent_state=states)


def next_state(agent: Agent, loop: LoopState) -> LoopState:
    """The state after one iteration."""
    return training.iterate(agent, ENDLESS_ENV, loop)[0]


# Settings one after the other, rollouts side by side: side by side in both compiles for twice as long.
next_states = jax.jit(
    lambda agents, loops: jax.lax.map(lambda pair: jax.vmap(next_state, in_axes=(None, 0))(*pair), (agents, loops))
)
# TRPO's searches end at different times: one after the other they compile and run faster than side by side.
next_states_in_turn = jax.jit(
    lambda agents, loops: jax.lax.map(
        lambda pair: jax.lax.map(lambda loop: next_state(pair[0], loop), pair[1]), (agents, loops)
    )
)


def _trpo_gains(num_envs: int) -> tuple[np.ndarray, np.ndarray]:
    """Gain and exact KL of one step of TRPO from the first policy, ``[max_kl, rollouts]``."""
    settings = {"rollout_length": TRPO_LENGTH, "cg_damping": 1e-3, "num_epochs": 1, "num_minibatches": 1}
    agents = [linear(TRPO, num_envs=num_envs, max_kl=bound, **settings) for bound in MAX_KLS]
    loops = informed(beginnings(agents[0], len(agents), TRPO_ROLLOUTS))
    after = next_states_in_turn(stacked(agents), loops)
    gain, kl = policy_changes(tables(loops.agent_state), tables(after.agent_state))
    return np.asarray(gain), np.asarray(kl)


# ----------------------------------------------------------------------------------------------------------------- ppo

EPOCHS = (1, 4, 16)
CLIPS = {"clip_eps 0.1": 0.1, "clip_eps 0.2": 0.2, "clip_eps 0.5": 0.5, "no clipping": 1e9}
PPO_ROLLOUTS, ITERATIONS = 24, 60
TRAININGS = {
    "1 epoch, clip_eps 0.2": (1, 1),
    "16 epochs, clip_eps 0.2": (16, 1),
    "16 epochs, no clipping": (16, 3),
}  # epochs, and the place in CLIPS


def _ppo(epochs: int, clip_eps: float) -> Agent:
    settings = {"num_envs": 8, "rollout_length": 32, "num_minibatches": 4, "num_epochs": epochs, "clip_eps": clip_eps}
    return linear(PPO, ascent=Ascent("adam", learning_rate=0.02), value_learning_rate=0.02, **settings)


def ppo() -> None:
    """One iteration of PPO against the number of epochs, with and without clipping, and whole trainings."""
    first = beginnings(_ppo(1, 0.2), len(CLIPS), PPO_ROLLOUTS)
    rows, curves = [], {}
    for epochs in EPOCHS:
        agents = stacked([_ppo(epochs, clip) for clip in CLIPS.values()])
        loops = informed(first)
        rows.append(policy_changes(tables(loops.agent_state), tables(next_states(agents, loops).agent_state)))
        if epochs in {trained for trained, _ in TRAININGS.values()}:
            curves[epochs] = _climbs(agents, first)
    gain, kl = (np.stack(x, axis=1) for x in zip(*rows, strict=True))  # [clips, epochs, rollouts]
    for name, gains, kls in zip(CLIPS, gain, kl, strict=True):
        shown = [(*mean_and_error(g), k.mean()) for g, k in zip(gains, kls, strict=True)]
        words = [f"{e}: {g:.3f} +- {s:.3f}, KL {k:.3f}" for e, (g, s, k) in zip(EPOCHS, shown, strict=True)]
        print(f"  {name:12} epochs: gain, KL  {'; '.join(words)}")
    best = ENDLESS.optimum().objective
    print(f"  best J {best:.3f}; J before iterations 0, 10, 20, {ITERATIONS - 1}, means over {PPO_ROLLOUTS} seeds")
    for name, (epochs, clip) in TRAININGS.items():
        curve = curves[epochs][clip]
        words = ", ".join(f"{curve[:, i].mean():.3f}" for i in (0, 10, 20, ITERATIONS - 1))
        print(f"  {name:24} {words}; least at the end {curve[:, -1].min():.3f}")

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    for number, name in enumerate(CLIPS):
        for axis, values in zip(axes[:2], (gain, kl), strict=True):
            drawn = np.transpose([mean_and_error(row) for row in values[number]])
            series(axis, number, EPOCHS, *drawn, label=name)
    axes[0].set(ylabel="gain of exact J in one iteration")
    axes[1].set(yscale="log", ylabel="KL(old, new), nats")
    for axis in axes[:2]:
        axis.set(xscale="log", xlabel="epochs over one rollout")
        axis.set_xticks(EPOCHS, map(str, EPOCHS))
        axis.minorticks_off()
    for number, (name, (epochs, clip)) in enumerate(TRAININGS.items()):
        mean, error = np.transpose([mean_and_error(x) for x in curves[epochs][clip].T])
        axes[2].plot(mean, color=COLORS[number], linestyle=("-", "--", ":")[number], label=name)
        axes[2].fill_between(range(ITERATIONS), mean - 2 * error, mean + 2 * error, color=COLORS[number], alpha=0.2)
    axes[2].axhline(best, color="gray", linewidth=1)
    axes[2].set(xlabel="iterations of 256 steps", ylabel="exact J")
    axes[0].legend(fontsize=8)
    axes[2].legend(fontsize=8)
    save(figure, "ppo")


def _climbs(agents: Agent, loops: LoopState) -> np.ndarray:
    """Exact J before each iteration of whole trainings, ``[clips, seeds, ITERATIONS]``."""
    policies = []
    for _ in range(ITERATIONS):
        policies.append(tables(loops.agent_state))
        loops = next_states(agents, loops)
    heights = jax.jit(lambda x: jax.lax.map(ENDLESS.objective, x.reshape(-1, CELLS, ACTIONS)))
    paths = jnp.stack(policies, axis=2)
    return np.asarray(heights(paths)).reshape(paths.shape[:3])


CHAPTERS: dict[str, Callable[[], None]] = {
    "gradient": gradient,
    "baselines": baselines,
    "advantages": advantages,
    "momentum": momentum,
    "natural-gradients": natural_gradients,
    "ppo": ppo,
}


def main(*chapters: str) -> None:
    """Write the figures of these chapters, or all."""
    for name in chapters or CHAPTERS:
        began = time.monotonic()
        print(name)
        CHAPTERS[name]()
        print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
