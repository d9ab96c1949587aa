"""The speed of Stable-Baselines3's PPO in one process on the CPU."""

import torch  # type: ignore[import-not-found]
from measure import IMAGES, arguments, report
from stable_baselines3 import PPO  # type: ignore[import-not-found]
from stable_baselines3.common.env_util import make_vec_env  # type: ignore[import-not-found]
from stable_baselines3.common.logger import Logger  # type: ignore[import-not-found]

OF_NUMBERS = {"net_arch": {"pi": [64, 64], "vf": [64, 64]}, "activation_fn": torch.nn.Tanh}
ITERATIONS = 9  # a call: more than an episode of HalfCheetah's 1,000 steps


def main() -> None:
    args = arguments()
    model = PPO(
        "CnnPolicy" if args.env == IMAGES else "MlpPolicy",
        make_vec_env(args.env, args.num_envs, seed=0),
        n_steps=args.rollout_length,
        batch_size=args.num_envs * args.rollout_length // 4,
        n_epochs=4,
        gamma=0.99,
        gae_lambda=0.95,
        ent_coef=0.0,
        vf_coef=0.5,
        clip_range=0.2,
        learning_rate=3e-4,
        max_grad_norm=0.5,
        policy_kwargs=None if args.env == IMAGES else OF_NUMBERS,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))  # its own would make a folder at every call
    steps = (1 if args.env == IMAGES else ITERATIONS) * args.num_envs * args.rollout_length

    def train() -> int:
        model.learn(steps, reset_num_timesteps=False)
        return steps

    report(train, args.seconds)


if __name__ == "__main__":
    main()
