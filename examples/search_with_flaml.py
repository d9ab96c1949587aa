"""A search by FLAML (pip install flaml), which ends early what is worse than half of the others were at that point.

FLAML's own ways of ending trials need Ray; a report of the objective will do.
"""

import collections
import statistics

from flaml import tune

import rlgd

return_of = rlgd.objective("a2c", "CartPole-v1", seeds=2, total_timesteps=20_000, worst=0.0)
earlier = collections.defaultdict(list)
ended = []


def is_worse(value, count):
    """A report: whether the training ends here."""
    others = earlier[count]
    worse = len(others) >= 3 and value < statistics.median(others)
    others.append(value)
    if worse:
        ended.append(count)
    return worse


def trial(values):
    return {"mean_return": return_of(values, is_worse)}


analysis = tune.run(
    trial,
    config={"learning_rate": tune.loguniform(1e-4, 1e-1), "gamma": tune.uniform(0.9, 0.999)},
    low_cost_partial_config={"learning_rate": 1e-3},
    metric="mean_return",
    mode="max",
    num_samples=8,
    verbose=0,
)
best = analysis.best_config
print(f"learning rate {best['learning_rate']:.2g}, gamma {best['gamma']:.3f}: mean return {return_of(best):.1f}")
print(f"{len(ended)} of 8 trials were ended early")
