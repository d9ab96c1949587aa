"""The speed of rejax's PPO: whole iterations in one compiled loop, as its ``train`` runs them between evaluations."""

import jax
from measure import arguments, report
from rejax import get_algo  # type: ignore[import-not-found]


def main() -> None:
    args = arguments()
    iteration_steps = args.num_envs * 128
    iterations = max(1, 2**18 // iteration_steps)
    algorithm = get_algo("ppo").create(
        env=args.env,
        num_envs=args.num_envs,
        num_steps=128,
        num_epochs=4,
        num_minibatches=4,
        agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"},
        gamma=0.99,
        gae_lambda=0.95,
        ent_coef=0.0,
        vf_coef=0.5,
        clip_eps=0.2,
        learning_rate=3e-4,
        max_grad_norm=0.5,
    )
    run = jax.jit(
        lambda state: jax.lax.fori_loop(0, iterations, lambda _, state: algorithm.train_iteration(state), state)
    )
    state = algorithm.init_state(jax.random.key(0))

    def train() -> int:
        nonlocal state
        state = jax.block_until_ready(run(state))
        return iterations * iteration_steps

    report(train, args.seconds)


if __name__ == "__main__":
    main()
