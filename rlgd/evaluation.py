"""How good a policy is: whole episodes, in Gymnasium or on the device, with the greedy or the sampled policy."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from rlgd.agents.common import Agent
from rlgd.data import Actor
from rlgd.envs import DeviceEnv, Env, HostEnv, make
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.policy import Policy, env_action

MAX_HOST_ENVS = 16
MAX_NATIVE_ENVS = 1000  # stepped together by NumPy


@dataclasses.dataclass(frozen=True)
class EvalResult:
    """``returns [E]`` float64 and ``lengths [E]`` int64 of each episode; ``deterministic``: which policy played."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    deterministic: bool

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(self.returns.std())


def evaluate(
    policy: Policy | Callable[[NDArray[Any]], NDArray[Any]],
    env: str | Env,
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = True,
) -> EvalResult:
    """Play whole episodes with a policy whose parameters and normalizers stay as they are.

    An id means Gymnasium's own environment; what ``rlgd.envs.make`` returned runs where it says. How many episodes each
    of the parallel environments plays is fixed beforehand: taking the first to finish would favour short ones.

    Args:
        policy: an rlgd policy, or (in Gymnasium) any function from ``obs [N, ...]`` to actions ``[N, ...]``.
        env: a Gymnasium id, or an environment from ``rlgd.envs.make``.
        episodes: how many, at least 1.
        seed: of environments and sampled actions; the same for every policy that is compared.
        deterministic: the greedy policy; otherwise actions are sampled.

    Raises:
        UsageError: if the policy does not fit the environment.
        EnvironmentFault: if the environment breaks.
    """
    if episodes < 1:
        raise UsageError(f"episodes is {episodes}; allowed: at least 1.")
    target = make(env, backend="host") if isinstance(env, str) else env
    if isinstance(policy, Policy):
        _check_fit(policy, target)
    if isinstance(target, HostEnv):
        return _evaluate_on_host(policy, target, episodes, seed, deterministic)
    if not isinstance(policy, Policy):
        raise UsageError("on the device only policies of rlgd can be evaluated; give the environment's id instead.")
    if target.max_episode_steps is None:
        raise UsageError(f"{target.env_id} has no time limit; set max_episode_steps.")
    returns, lengths = _evaluate_on_device(
        policy.agent, target, policy.actor, jax.random.key(seed), episodes, deterministic
    )
    if not np.isfinite(returns).all():
        raise EnvironmentFault(f"a reward of {target.env_id} is not finite, or the return of an episode overflows.")
    return EvalResult(np.asarray(returns, np.float64), np.asarray(lengths, np.int64), deterministic)


def _check_fit(policy: Policy, env: Env) -> None:
    for role in ("obs", "action"):
        trained, given = getattr(policy.spec, role), getattr(env.spec, role)
        if trained != given:
            raise UsageError(f"{env.env_id} does not fit the policy: its {role} is {given}, trained was {trained}.")


def _evaluate_on_host(policy: Any, env: HostEnv, episodes: int, seed: int, deterministic: bool) -> EvalResult:
    num_envs = min(episodes, MAX_NATIVE_ENVS if env.native else MAX_HOST_ENVS)
    quota = np.full(num_envs, episodes // num_envs) + (np.arange(num_envs) < episodes % num_envs)
    played: list[list[tuple[float, int]]] = [[] for _ in range(num_envs)]
    so_far, length = np.zeros(num_envs), np.zeros(num_envs, np.int64)
    key = jax.random.key(seed)
    vector = env.open(num_envs)
    try:
        obs = vector.reset(seed)
        t = 0
        while any(len(done) < wanted for done, wanted in zip(played, quota, strict=True)):
            if isinstance(policy, Policy):
                step_key = None if deterministic else jax.random.fold_in(key, t)
                action = policy(obs, deterministic=deterministic, key=step_key)
            else:
                action = policy(obs)
            step = vector.step(action)
            so_far += np.where(step.valid, step.reward, 0)
            length += step.valid
            for n in np.flatnonzero(step.terminated | step.truncated):
                played[n].append((so_far[n], length[n]))
                so_far[n], length[n] = 0, 0
            obs, t = step.obs, t + 1
    finally:
        vector.close()
    kept = [episode for done, wanted in zip(played, quota, strict=True) for episode in done[:wanted]]
    returns, lengths = zip(*kept, strict=True)
    return EvalResult(np.array(returns, np.float64), np.array(lengths, np.int64), deterministic)


@functools.partial(jax.jit, static_argnums=(1, 4, 5))
def _evaluate_on_device(
    agent: Agent, env: DeviceEnv, actor: Actor, key: Array, episodes: int, greedy: bool
) -> tuple[Array, Array]:
    """One episode in each of so many environments: ``(returns [E] float32, lengths [E] int32)``."""
    reset_key, act_key, step_key = jax.random.split(key, 3)
    state, obs = env.reset(reset_key, episodes)

    def step(carry: Any) -> Any:
        t, state, obs, alive, returns, lengths = carry
        action = env_action(agent, env.spec, actor, obs, jax.random.fold_in(act_key, t), greedy)
        state, timestep = env.step_without_reset(jax.random.fold_in(step_key, t), state, action)
        returns += jnp.where(alive, timestep.reward, 0)
        lengths += alive.astype(jnp.int32)
        alive &= ~(timestep.terminated | timestep.truncated)
        return t + 1, state, timestep.next_obs, alive, returns, lengths

    start = (jnp.int32(0), state, obs, jnp.ones(episodes, bool), jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32))
    *_, returns, lengths = jax.lax.while_loop(lambda carry: jnp.any(carry[3]), step, start)
    return returns, lengths
