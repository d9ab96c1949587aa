"""Train PPO on CartPole, use the policy as a function, and score it in Gymnasium's own CartPole."""

import gymnasium

import rlgd
from rlgd.agents import PPO
from rlgd.ascent import Ascent

agent = PPO(ascent=Ascent("adam", learning_rate=1e-3, max_grad_norm=0.5, schedule="linear"))
result = rlgd.train(agent, "CartPole-v1", total_timesteps=50_000)

env = gymnasium.make("CartPole-v1")
obs, _ = env.reset(seed=0)
print("first action:", result.policy(obs))

scored = rlgd.evaluate(result.policy, "CartPole-v1", episodes=20)
print(f"return: {scored.mean:.1f} +- {scored.std:.1f}")
