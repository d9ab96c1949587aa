"""How good a policy is: returns of whole episodes, in Gymnasium or on the device, greedy or sampled."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from rlgd.agents.base.agent import Agent
from rlgd.envs import SUITES, DeviceEnv, Env, HostEnv, make
from rlgd.envs.device.programs import JitPerEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import EnvironmentFault, UsageError, whole_number
from rlgd.evaluation.policy import Policy, env_action
from rlgd.frames import frame
from rlgd.maths.seeds import random_key
from rlgd.pytrees import Actor, View
from rlgd.spaces import Spec
from rlgd.tables import as_html

MAX_HOST_ENVS = 16
MAX_NATIVE_ENVS = 1000  # NumPy steps them together
MAX_STEPS = 10_000  # of an episode without a time limit: not every policy reaches the end of every episode
EVAL_SEED = 1_000_003  # evaluation plays the same episodes whatever the seed of the training


@dataclasses.dataclass(frozen=True, repr=False)
class EvalResult:
    """The episodes of an evaluation.

    Attributes:
        returns: ``[E]`` float64, the undiscounted return of each episode.
        lengths: ``[E]`` int64, its number of steps.
        deterministic: whether the greedy policy played.
    """

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

    def __str__(self) -> str:
        """The returns as a person reads them."""
        policy = "greedy" if self.deterministic else "sampled"
        return f"mean return {self.mean:.1f} +- {self.std:.1f} over {len(self.returns)} episodes ({policy} policy)"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        columns = {"return": self.returns, "length": self.lengths}
        rows = [
            [name, f"{x.mean():.1f}", f"{x.std():.1f}", f"{x.min():g}", f"{x.max():g}"] for name, x in columns.items()
        ]
        return as_html(["", "mean", "std", "least", "most"], rows, str(self))

    def frame(self) -> Any:
        """The episodes as a ``pandas.DataFrame`` with the columns ``return`` and ``length``.

        Raises:
            UsageError: if pandas is not installed.
        """
        return frame({"return": self.returns, "length": self.lengths})


def evaluate(
    policy: Policy | Callable[[NDArray[Any]], NDArray[Any]],
    env: str | Env,
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = True,
    max_steps: int | None = None,
    between: Callable[[], None] = lambda: None,
) -> EvalResult:
    """Play whole episodes with a policy; nothing in the policy changes.

    An id means Gymnasium's own environment; a result of ``rlgd.envs.make`` runs on the device or the host as made. The
    number of episodes of each parallel environment is fixed beforehand: taking the first ones to finish would favour
    short episodes.

    Args:
        policy: an rlgd policy, or (in Gymnasium) any function from ``obs [N, ...]`` to actions ``[N, ...]``.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returns.
        episodes: how many, at least 1.
        seed: of environments and sampled actions, from 0; use the same one for all policies of a comparison.
        deterministic: whether the greedy policy plays; otherwise actions are sampled.
        max_steps: the longest episode; None takes the environment's time limit, or ``MAX_STEPS`` if it has none.
        between: called between steps in Gymnasium; an exception from it ends the evaluation.

    Raises:
        UsageError: if the policy does not fit the environment.
        EnvironmentFault: if the environment breaks.
    """
    episodes, seed = whole_number("episodes", episodes, 1), whole_number("seed", seed)
    target = playable(policy, env, max_steps)
    if isinstance(target, HostEnv):
        num_envs = target.running or min(episodes, MAX_NATIVE_ENVS if target.native else MAX_HOST_ENVS)
        with contextlib.closing(target.open(num_envs)) as vector:
            return play_in(vector, policy, episodes, seed, deterministic, between)
    if not isinstance(policy, Policy):
        raise UsageError("on the device only policies of rlgd can be evaluated; give the environment's id instead.")
    agent, key = policy.agent.prepared(), random_key(seed)
    returns, lengths = _play_on_device(agent, target, policy.actor, key, episodes, deterministic)
    if not np.isfinite(returns).all():
        raise EnvironmentFault(f"a reward of {target.env_id} is not finite, or the return of an episode overflows.")
    return EvalResult(np.asarray(returns, np.float64), np.asarray(lengths, np.int64), deterministic)


def playable(policy: Any, env: Any, max_steps: int | None) -> Env:
    """The environment to play in, with its time limit; see ``evaluate``.

    Raises:
        UsageError: if the policy does not fit it, or a number is not allowed.
    """
    max_steps = None if max_steps is None else whole_number("max_steps", max_steps, 1)
    target = make(env, backend="host" if isinstance(env, str) and env.partition(":")[0] not in SUITES else "auto")
    if isinstance(policy, Policy):
        check_fit("policy", policy.spec, target)
    return _limited(target, max_steps)


def _limited(env: Env, max_steps: int | None) -> Env:
    """The environment with a time limit of ``max_steps``, unless its own is shorter."""
    own = env.spec.max_episode_steps
    limit = own or MAX_STEPS if max_steps is None else min(max_steps, own or max_steps)
    if isinstance(env, HostEnv) and env.running:
        if max_steps is not None:
            raise UsageError(f"{env.env_id} is a running vector environment, which takes no max_steps.")
        return env
    return env if limit == own else dataclasses.replace(env, max_episode_steps=limit)


def check_fit(name: str, trained: Spec, env: Env) -> None:
    """Refuse an environment with other spaces than those of ``trained``, which ``name`` has in the message.

    Raises:
        UsageError: naming both spaces.
    """
    for role in ("obs", "action"):
        expected, given = getattr(trained, role), getattr(env.spec, role)
        if expected != given:
            raise UsageError(
                f"{env.env_id} does not fit the {name}: its {role} is {given}, the {name}'s is {expected}."
            )


def play_in(
    vector: HostVector,
    policy: Any,
    episodes: int,
    seed: int,
    deterministic: bool,
    between: Callable[[], None] = lambda: None,
) -> EvalResult:
    """Play whole episodes in running environments, a fixed number in each of them."""
    num_envs = vector.vector.num_envs
    quota = np.full(num_envs, episodes // num_envs) + (np.arange(num_envs) < episodes % num_envs)
    played: list[list[tuple[float, int]]] = [[] for _ in range(num_envs)]
    so_far, length = np.zeros(num_envs), np.zeros(num_envs, np.int64)
    choose = _chooser(policy, vector, random_key(seed), deterministic)
    obs, first = vector.reset(seed), np.ones(num_envs, bool)
    t = 0
    limit = vector.spec.max_episode_steps or MAX_STEPS
    while any(len(done) < wanted for done, wanted in zip(played, quota, strict=True)):
        if t > quota.max() * (limit + 1):
            raise EnvironmentFault(f"{vector.env_id} does not end its episodes within {limit} steps.")
        action = choose(obs, first, t)
        between()
        step = vector.step(action)
        so_far += np.where(step.valid, step.reward, 0)
        length += step.valid
        for n in np.flatnonzero(step.terminated | step.truncated):
            played[n].append((so_far[n], length[n]))
            so_far[n], length[n] = 0, 0
        obs, first, t = step.obs, step.first, t + 1
    kept = [episode for done, wanted in zip(played, quota, strict=True) for episode in done[:wanted]]
    returns, lengths = zip(*kept, strict=True)
    return EvalResult(np.array(returns, np.float64), np.array(lengths, np.int64), deterministic)


def _chooser(
    policy: Any, vector: HostVector, key: Array, deterministic: bool
) -> Callable[[Any, NDArray[np.bool_], int], NDArray[Any]]:
    """``(obs, first, t) -> action``, with the policy's own key, action mask and memory if it is one of rlgd."""
    if not isinstance(policy, Policy):
        return lambda obs, first, t: policy(obs)
    own = policy.copy()  # the caller's policy may be in the middle of an episode

    def choose(obs: Any, first: NDArray[np.bool_], t: int) -> NDArray[Any]:
        step_key = None if deterministic else _fold_in(key, t)
        return own(obs, deterministic=deterministic, key=step_key, action_mask=vector.action_mask, first=first)

    return choose


_fold_in = jax.jit(jax.random.fold_in)  # operation by operation it takes longer than a small policy


def play_on_device(
    agent: Agent, env: DeviceEnv, actor: Actor, key: Array, episodes: int, greedy: bool
) -> tuple[Array, Array]:
    """One episode in each of ``episodes`` environments: ``(returns [E] float32, lengths [E] int32)``."""
    reset_key, act_key, step_key = jax.random.split(key, 3)
    state, obs = env.reset(reset_key, episodes)

    def step(carry: Any) -> Any:
        t, state, obs, memory, alive, returns, lengths = carry
        view = View(obs, jnp.full(episodes, t == 0), env.action_mask(state))
        action, memory = env_action(agent, env.spec, actor, memory, view, jax.random.fold_in(act_key, t), greedy)
        state, timestep = env.step_without_reset(jax.random.fold_in(step_key, t), state, action)
        returns += jnp.where(alive, timestep.reward, 0)
        lengths += alive.astype(jnp.int32)
        alive &= ~(timestep.terminated | timestep.truncated)
        return t + 1, state, timestep.next_obs, memory, alive, returns, lengths

    blank = (jnp.ones(episodes, bool), jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32))
    start = (jnp.int32(0), state, obs, agent.memory(env.spec, episodes), *blank)
    *_, returns, lengths = jax.lax.while_loop(lambda carry: jnp.any(carry[4]), step, start)
    return returns, lengths


_play_on_device = JitPerEnv(play_on_device, 1, static_argnums=(4, 5))
