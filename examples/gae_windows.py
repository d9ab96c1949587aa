"""What the end of a rollout does to the advantages before it, and what its correction changes.

    python examples/gae_windows.py [FIGURE.svg]

Generalized advantage estimation averages advantages over 1, 2, 3, ... steps. In a rollout of T steps the row t has only
T - t of them, and the longest gets the weight of all that are missing. In a small decision problem, solved exactly,
with a value function that is wrong by a known amount, the figure shows for each row of the rollout how far the gradient
made of these advantages is from the exact one, on average and by chance.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from rlgd.maths.returns import gae

STATES, ACTIONS, GAMMA, LAMBDA, LENGTH, WINDOWS, BATCHES = 6, 3, 0.97, 0.95, 32, 256, 100
LEFT = range(LENGTH, 0, -1)  # steps that each row has
ERRORS = {"exact values": 0.0, "values wrong by half their spread": 0.5}


def problem(seed=0):
    """Transition probabilities [S, A, S], rewards [S, A] and a policy [S, A]."""
    random = np.random.default_rng(seed)
    transition = random.dirichlet(np.full(STATES, 0.3), size=(STATES, ACTIONS))
    return transition, random.normal(size=(STATES, ACTIONS)), random.dirichlet(np.ones(ACTIONS), size=STATES)


def solved(transition, reward, policy):
    """Values [S] and advantages [S, A] of the policy, and its stationary distribution [S]."""
    chain = np.einsum("sa,sat->st", policy, transition)
    value = np.linalg.solve(np.eye(STATES) - GAMMA * chain, np.sum(policy * reward, axis=1))
    stationary = np.linalg.matrix_power(chain, 1000)[0]
    return value, reward + GAMMA * transition @ value - value[:, None], stationary


def scores(policy):
    """The gradient of log pi(a|s) with respect to the logits of s, [S, A, A]."""
    return np.eye(ACTIONS)[None] - policy[:, None, :]


def estimates(key, model, value, start, correction):
    """One gradient estimate for each row of a rollout, of WINDOWS environments, [T, S, A]."""
    transition, reward, policy = map(jnp.asarray, model)

    def step(state, key):
        of_action, of_state = jax.random.split(key)
        action = jax.random.categorical(of_action, jnp.log(policy[state]))
        following = jax.random.categorical(of_state, jnp.log(transition[state, action]))
        return following, (state, action, reward[state, action], following)

    first, *keys = jax.random.split(key, LENGTH + 1)
    state = jax.random.categorical(first, jnp.log(start), shape=(WINDOWS,))
    _, (state, action, rewards, following) = jax.lax.scan(step, state, jnp.stack(keys))
    never = jnp.zeros(state.shape, bool)
    advantage, _ = gae(rewards, value[state], value[following], never, never, GAMMA, LAMBDA, correction)
    of_row = advantage[..., None] * jnp.asarray(scores(policy))[state, action]
    zero = jnp.zeros((LENGTH, STATES, ACTIONS))
    return zero.at[jnp.arange(LENGTH)[:, None], state].add(of_row) / WINDOWS


def bias(model, guess, correction):
    """Mean gradient of each row minus the exact one, [T, S, A]: advantages are linear in the temporal differences."""
    transition, reward, policy = model
    _, advantage, stationary = solved(*model)
    chain = np.einsum("sa,sat->st", policy, transition)
    surprise = np.sum(policy * reward, axis=1) + GAMMA * chain @ guess - guess  # the mean difference in each state
    differences = [reward + GAMMA * transition @ guess - guess[:, None]]
    differences += [transition @ np.linalg.matrix_power(chain, n) @ surprise for n in range(LENGTH - 1)]
    rows = jnp.asarray(np.stack(differences))
    never, zero = jnp.zeros(rows.shape, bool), jnp.zeros_like(rows)
    expected = [gae(rows[:n], zero[:n], zero[:n], never[:n], never[:n], GAMMA, LAMBDA, correction)[0][0] for n in LEFT]
    return np.einsum("s,sa,tsa,sab->tsb", stationary, policy, np.stack(expected) - advantage, scores(policy))


def errors(correction, wrong, seed=0):
    """Bias of each row's gradient, and its deviation with one environment, over the exact gradient's length, [T]."""
    model = problem(seed)
    value, advantage, stationary = solved(*model)
    exact = np.einsum("s,sa,sa,sab->sb", stationary, model[2], advantage, scores(model[2]))
    guess = value + wrong * np.std(value) * np.random.default_rng(seed + 1).normal(size=STATES)
    draw = jax.jit(lambda key: estimates(key, model, jnp.asarray(guess), jnp.asarray(stationary), correction))
    drawn = np.stack([draw(key) for key in jax.random.split(jax.random.key(seed), BATCHES)])
    deviation = np.sqrt(WINDOWS * np.sum(np.var(drawn, axis=0, ddof=1), axis=(1, 2)))
    length = np.linalg.norm(exact)
    return np.linalg.norm(bias(model, guess, correction), axis=(1, 2)) / length, deviation / length


def main(figure=None):
    cases = [(name, correction) for name in ERRORS for correction in ("off", "windows")]
    results = {(name, correction): errors(correction, ERRORS[name]) for name, correction in cases}
    print(f"{'':36}{'':10}{'bias':>8}{'':8}{'deviation':>10}")
    print(f"{'':36}{'':10}{'all rows':>8}{'last 8':>8}{'all rows':>10}{'last 8':>8}")
    for (name, correction), (mean_error, deviation) in results.items():
        print(
            f"{name:36}{correction:10}{np.mean(mean_error):8.3f}{np.mean(mean_error[-8:]):8.3f}"
            f"{np.mean(deviation):10.1f}{np.mean(deviation[-8:]):8.1f}"
        )
    if figure is None:
        return
    from matplotlib import pyplot

    shown, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for (name, correction), columns in results.items():
        color, style = ("C0", "C1")[list(ERRORS).index(name)], "--" if correction == "windows" else "-"
        for ax, column in zip(axes, columns, strict=True):
            ax.plot(column, style, color=color, label=f"{name}, correction {correction}")
    for ax, title in zip(axes, ("bias", "standard deviation, one environment"), strict=True):
        ax.set(xlabel="row of the rollout", title=title, ylim=(0, None))
    axes[0].set_ylabel("over the length of the exact gradient")
    axes[0].legend(fontsize="small")
    shown.savefig(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
