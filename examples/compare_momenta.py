"""Four momenta at once: the agents are stacked into one, and one compiled program trains them all.

Momentum is a traced number, so that its values share a program. The schedule of step sizes is the same for all: heavy
ball multiplies the effective step by 1 / (1 - momentum), which is divided out here.
"""

import jax
import jax.numpy as jnp

from rlgd import training
from rlgd.agents import A2C
from rlgd.ascent import Ascent
from rlgd.envs import make

MOMENTA = (0.0, 0.5, 0.9, 0.95)
ITERATIONS = 300

env = make("CartPole-v1")
agents = [A2C(ascent=Ascent("momentum", learning_rate=0.05 * (1 - m), momentum=m)).prepared() for m in MOMENTA]
stacked = jax.tree.map(lambda *values: jnp.stack(values), *agents)
keys = jnp.stack([jax.random.key(0)] * len(MOMENTA))  # the same start for all
loops = jax.vmap(lambda agent, key: training.initialize(agent, env, key))(stacked, keys)


@jax.jit
def train(agents, loops):
    def step(loops, _):
        return jax.vmap(training.iterate, in_axes=(0, None, 0))(agents, env, loops)

    return jax.lax.scan(step, loops, length=ITERATIONS)


_, metrics = train(stacked, loops)
ended = metrics["rollout/episodes"][-100:].sum(axis=0)
for momentum, total, count in zip(MOMENTA, metrics["rollout/return_sum"][-100:].sum(axis=0), ended, strict=True):
    print(f"momentum {momentum:4}: mean return {total / count:6.1f} over the last 100 iterations")
