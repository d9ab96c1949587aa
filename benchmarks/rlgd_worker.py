"""The speed of rlgd's PPO, on the device or on Gymnasium's environments."""

import dataclasses

import jax
from measure import IMAGES, arguments, report

from rlgd import envs, training
from rlgd.agents import PPO
from rlgd.ascent import Ascent
from rlgd.envs import DeviceEnv

STEPS = 2**31 - 1  # without end: the number of iterations says when a call returns


def main() -> None:
    args = arguments()
    if args.backend == "host":
        # As the command line does on the CPU: a call this small is not worth another thread.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    env = envs.make(args.env, backend=args.backend)
    agent = PPO(
        num_envs=args.num_envs,
        rollout_length=args.rollout_length,
        num_epochs=4,
        num_minibatches=4,
        hidden_sizes=(512,) if args.env == IMAGES else (64, 64),
        activation="relu" if args.env == IMAGES else "tanh",
        value_network="policy" if args.env == IMAGES else None,  # as the peer's
        gamma=0.99,
        gae_lambda=0.95,
        ent_coef=0.0,
        vf_coef=0.5,
        clip_eps=0.2,
        clip_value=args.backend == "device",  # as the peer does: rejax always clips it, Stable-Baselines3 does not
        ascent=Ascent("adam", learning_rate=3e-4, max_grad_norm=0.5),
    ).prepared()
    length = training.chunk_length(agent, env)
    loop = training.initialize(agent, env, jax.random.key(0))
    runner: training.Runner
    if isinstance(env, DeviceEnv):
        runner = training.DeviceRunner(agent, env, length)
    else:
        vector = env.open(agent.num_envs)
        loop = dataclasses.replace(loop, obs=jax.numpy.asarray(vector.reset(0)))
        runner = (
            training.OverlappingRunner(agent, vector, STEPS) if args.overlap else training.HostRunner(agent, vector)
        )

    def train() -> int:
        nonlocal loop
        loop, metrics = runner(loop, length, STEPS)
        jax.block_until_ready(loop)
        return int(metrics["rollout/steps"].sum())

    compiled = -1.0  # what is measured of the ascent has a program of its own, in the second call
    while runner.compile_seconds > compiled:
        compiled = runner.compile_seconds
        train()
    report(train, args.seconds)


if __name__ == "__main__":
    main()
