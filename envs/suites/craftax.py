"""Environments of Craftax, whose interface is gymnax's."""

from typing import Any

from rlgd.envs.suites.gymnax import like_gymnax
from rlgd.envs.suites.suite_env import NO_LIMIT, Loaded

NAMES = ("Craftax-Symbolic-v1", "Craftax-Pixels-v1", "Craftax-Classic-Symbolic-v1", "Craftax-Classic-Pixels-v1")


def load_craftax(suite: Any, name: str) -> Loaded:
    """An environment of the module ``craftax.craftax_env``, and its time limit, which it then leaves to us."""
    env = suite.make_craftax_env_from_name(name, auto_reset=False)
    params = env.default_params
    return like_gymnax(env, params, params.replace(max_timesteps=NO_LIMIT)), int(params.max_timesteps)
