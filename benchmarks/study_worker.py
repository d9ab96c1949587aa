"""32 seeds of PPO on CartPole-v1, 51,200 steps each: wall time with compilation, and without, as one line of JSON."""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import jax

SEEDS, ITERATIONS, NUM_ENVS, LENGTH = 32, 50, 8, 128


def study() -> None:
    """One study."""
    import rlgd

    rlgd.study(_agent(), "CartPole-v1", {"gamma": [0.99]}, seeds=SEEDS, total_timesteps=_steps(), eval_episodes=1)


def loop() -> None:
    """One run after another, in one process."""
    import rlgd

    for seed in range(SEEDS):
        rlgd.train(_agent(), "CartPole-v1", total_timesteps=_steps(), seed=seed)


def rejax() -> Callable[[], None]:
    """The peer, vmapped over seeds."""
    from rejax import get_algo  # type: ignore[import-not-found]

    algorithm = get_algo("ppo").create(
        env="CartPole-v1",
        num_envs=NUM_ENVS,
        num_steps=LENGTH,
        num_epochs=4,
        num_minibatches=4,
        agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"},
        learning_rate=3e-4,
        max_grad_norm=0.5,
    )

    def train(key: jax.Array) -> object:
        state = algorithm.init_state(key)
        return jax.lax.fori_loop(0, ITERATIONS, lambda _, state: algorithm.train_iteration(state), state)

    run = jax.jit(jax.vmap(train))
    return lambda: jax.block_until_ready(run(jax.random.split(jax.random.key(0), SEEDS)))


def _steps() -> int:
    return ITERATIONS * NUM_ENVS * LENGTH


def _agent() -> Any:
    from rlgd.agents import PPO
    from rlgd.ascent.ascent import Ascent

    return PPO(
        num_envs=NUM_ENVS,
        rollout_length=LENGTH,
        num_epochs=4,
        num_minibatches=4,
        clip_value=True,  # as the peer does
        measure_every=0,
        ascent=Ascent("adam", learning_rate=3e-4, max_grad_norm=0.5),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=("study", "loop", "rejax"))
    who = parser.parse_args().who
    start = time.perf_counter()
    run = rejax() if who == "rejax" else {"study": study, "loop": loop}[who]
    run()
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
