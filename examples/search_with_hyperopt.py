"""A search by Hyperopt (pip install hyperopt), which minimizes: so it is given the negative return.

The optimizers have other programs, so each is compiled once; the learning rates share them.
"""

import numpy as np
from hyperopt import fmin, hp, space_eval, tpe

import rlgd

SPACE = {
    "learning_rate": hp.loguniform("learning_rate", np.log(1e-4), np.log(1e-1)),
    "optimizer": hp.choice("optimizer", ["adam", "rmsprop"]),
}
return_of = rlgd.objective("a2c", "CartPole-v1", seeds=2, total_timesteps=20_000, worst=0.0)

found = fmin(
    lambda values: -return_of(values),
    SPACE,
    algo=tpe.suggest,
    max_evals=8,
    rstate=np.random.default_rng(0),
    show_progressbar=False,
)
best = space_eval(SPACE, found)
print(f"optimizer {best['optimizer']}, learning rate {best['learning_rate']:.2g}: mean return {return_of(best):.1f}")
