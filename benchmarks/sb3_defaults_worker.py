"""The return of Stable-Baselines3's PPO with its default settings, trained in one environment on the CPU."""

import argparse
import json
from typing import Any

import gymnasium
from gymnasium.wrappers import FlattenObservation
from stable_baselines3 import PPO  # type: ignore[import-not-found]
from stable_baselines3.common.env_util import make_vec_env  # type: ignore[import-not-found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env", help="Gymnasium id")
    parser.add_argument("arguments", type=json.loads, help="of the environment, as JSON")
    parser.add_argument("steps", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("episodes", type=int)
    parser.add_argument("first_episode", type=int, help="seed of the first episode that is played")
    args = parser.parse_args()

    def make() -> Any:
        env = gymnasium.make(args.env, **args.arguments)
        # It takes no tuples.
        return FlattenObservation(env) if isinstance(env.observation_space, gymnasium.spaces.Tuple) else env

    model = PPO("MlpPolicy", make_vec_env(make, 1, seed=args.seed), seed=args.seed, device="cpu").learn(args.steps)
    env, total = make(), 0.0
    for episode in range(args.episodes):
        obs, _ = env.reset(seed=args.first_episode + episode)
        ended = False
        while not ended:
            action, _ = model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, ended = total + float(reward), terminated or truncated
    print(json.dumps(total / args.episodes))


if __name__ == "__main__":
    main()
