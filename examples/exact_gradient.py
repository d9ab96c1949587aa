"""The angle between an estimate of the policy gradient and the exact gradient: what changes it?

    python examples/exact_gradient.py [FIGURE.svg]

A small grid world is solved exactly, and REINFORCE estimates its gradient at the first policy of each of a few seeds.
Three panels: episodes in a batch, the baseline, and momentum. Momentum averages gradients of the past: its
first moment points closer to the exact gradient than a single estimate as long as the policy moves slowly.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from rlgd import training
from rlgd.agents import REINFORCE
from rlgd.ascent import Ascent, cosine
from rlgd.envs import make
from rlgd.exact import TabularMDP, comparison

SIZE, HORIZON, GAMMA, SEEDS, SAMPLES = 4, 20, 0.95, 5, 64
BATCHES = (2, 8, 32, 128)
BASELINES = ("none", "mean", "value")
MOMENTA = (0.0, 0.5, 0.9, 0.95, 0.99)
UPDATES = 200


def grid_world():
    """From one corner to the other, by up, down, left, right; each step costs 0.1, the goal pays 1; a third slips."""
    cells = SIZE * SIZE
    transition, reward = np.zeros((cells, 4, cells)), np.full((cells, 4), -0.1)
    for cell in range(cells):
        row, column = divmod(cell, SIZE)
        moves = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        landing = [min(max(r, 0), SIZE - 1) * SIZE + min(max(c, 0), SIZE - 1) for r, c in moves]
        for action in range(4):
            for slipped in range(4):
                transition[cell, action, landing[slipped]] += 1 / 12 + (2 / 3 if slipped == action else 0)
            reward[cell, action] += transition[cell, action, cells - 1]
    goal = np.arange(cells) == cells - 1
    return TabularMDP(transition, reward, np.eye(cells)[0], GAMMA, terminal=goal, horizon=HORIZON)


PROBLEM = grid_world()
ENV = make(PROBLEM.env, max_episode_steps=HORIZON)


def agent_with(**settings):
    fixed = {"gamma": GAMMA, "discount_weighting": True, "hidden_sizes": (), "measure_every": 0}
    return REINFORCE(**(fixed | settings)).prepared()


@jax.jit
def iterations(agent, loop):
    return jax.lax.scan(lambda loop, _: (training.iterate(agent, ENV, loop)[0], None), loop, length=UPDATES)[0]


def of_one_estimate(seed, **settings):
    """Mean cosine of single estimates with the exact gradient, at the first policy of a seed."""
    agent = agent_with(ascent=Ascent("adam", learning_rate=0.0), value_learning_rate=0.02, **settings)
    loop = training.initialize(agent, ENV, jax.random.key(seed))
    if agent.baseline == "value":
        loop = iterations(agent, loop)  # the value function learns, the policy stays
    return float(comparison.compare(agent, ENV, loop.agent_state, jax.random.key(100 + seed), SAMPLES).cosine)


@jax.jit
def moment_cosines(agent, loop):
    """The cosine of Adam's first moment with the exact gradient of the policy of the time, ``[UPDATES]``."""

    def update(loop, _):
        loop, _ = training.iterate(agent, ENV, loop)
        state = loop.agent_state
        to_policy = comparison.policy_of(agent, ENV.spec, PROBLEM, state)
        exact = PROBLEM.gradient(to_policy, state.params.policy)
        return loop, cosine(agent.ascent.first_moment(state.opt_state.policy), exact)

    return jax.lax.scan(update, loop, length=UPDATES)[1]


def of_the_moment(seed, momentum):
    """Its mean over a training, but for the first quarter, in which the moment is gathered."""
    ascent = Ascent("adam", learning_rate=1e-3, momentum=momentum)
    agent = agent_with(num_envs=4, baseline="mean", ascent=ascent)  # momentum is traced: one program for all
    loop = training.initialize(agent, ENV, jax.random.key(seed))
    return float(jnp.mean(moment_cosines(agent, loop)[UPDATES // 4 :]))


def angles():
    """Panel: label of a setting: cosines ``[SEEDS]``."""
    seeds = range(SEEDS)
    return {
        "episodes in a batch": {
            str(size): [of_one_estimate(seed, num_envs=size, baseline="none") for seed in seeds] for size in BATCHES
        },
        "baseline (16 episodes)": {
            name: [of_one_estimate(seed, num_envs=16, baseline=name) for seed in seeds] for name in BASELINES
        },
        "momentum (4 episodes)": {str(m): [of_the_moment(seed, m) for seed in seeds] for m in MOMENTA},
    }


def draw(panels, path):
    """The figure: a point for each seed, a dash at the mean."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "rlgd", "font.size": 9}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
    for axis, (title, settings) in zip(axes, panels.items(), strict=True):
        for position, cosines in enumerate(settings.values()):
            axis.plot([position] * len(cosines), cosines, "o", color="tab:blue", alpha=0.35, markersize=4)
        numeric = "none" not in settings
        means = [np.mean(cosines) for cosines in settings.values()]
        axis.plot(means, "_-" if numeric else "_", color="tab:blue", markersize=14)
        axis.set_xticks(range(len(settings)), settings)
        axis.margins(x=0.12)
        axis.set_xlabel(title)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("cosine to the exact gradient")
    axes[0].set_ylim(0, 1)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    panels = angles()
    for title, settings in panels.items():
        print(title)
        for label, cosines in settings.items():
            print(f"  {label:>6}  cosine {np.mean(cosines):.3f}  (seeds {min(cosines):.3f} to {max(cosines):.3f})")
    if len(sys.argv) > 1:
        draw(panels, sys.argv[1])
