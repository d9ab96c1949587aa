"""Probe environments with exactly known answers, on the device and as ordinary Gymnasium environments."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from jax import Array
from numpy.typing import NDArray

import rlgd.envs
from rlgd import training
from rlgd.agents import PPO
from rlgd.envs import HostEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.evaluation import Policy
from rlgd.pytrees import Actor, LoopState, Rollout
from rlgd.spaces import Spec
from rlgd.training import device_rollout

Space: TypeAlias = gymnasium.Space[Any]
Functional: TypeAlias = FuncEnv[Any, Any, Any, Any, Any, Any, Any]

GAMMA = 0.5


class Cue(NamedTuple):
    """The state: ``probe`` int32, its number; ``sign`` float32, a random +-1; ``t`` int32, the steps so far."""

    probe: Array
    sign: Array
    t: Array


@dataclasses.dataclass(frozen=True)
class Probe:
    """One question.

    Attributes:
        observe: the observation, one number.
        pay: the reward of each step.
        answers: of the best policy: observation -> (value at discount ``GAMMA``, action; None: any action).
        length: steps of an episode, at most ``PROBE_LIMIT``; None: only the time limit ends it.
    """

    observe: Callable[[Cue], Array]
    pay: Callable[[Cue, Array], Array]
    answers: Mapping[float, tuple[float, float | None]]
    length: int | None = 1


class Medley(FuncEnv[Cue, Array, Array, Array, Array, Any, Any]):
    """Every episode plays one of the probes, drawn at its start: one training learns them all.

    The observation is the number of the probe, one-hot, and then the probe's own observation.
    """

    def __init__(self, probes: Mapping[str, Probe], action_space: Space) -> None:
        super().__init__()
        self.names, self.probes, self.action_space = list(probes), list(probes.values()), action_space
        self.observation_space = Box(-2.0, 2.0, (len(probes) + 1,))

    def see(self, name: str, obs: float) -> NDArray[Any]:
        """The observation when the probe ``name`` shows ``obs``."""
        return np.array([*(name == other for other in self.names), obs], np.float32)

    def _of_probe(self, state: Cue, values: Sequence[Any]) -> Array:
        return jnp.stack(list(map(jnp.asarray, values)))[state.probe]

    def initial(self, rng: Array, params: Any = None) -> Cue:
        keys = jax.random.split(rng)
        probe = jax.random.randint(keys[0], (), 0, len(self.probes))
        return Cue(probe, jax.random.rademacher(keys[1], (), jnp.float32), jnp.zeros((), jnp.int32))

    def transition(self, state: Cue, action: Array, rng: Array, params: Any = None) -> Cue:
        return state._replace(t=state.t + 1)

    def observation(self, state: Cue, rng: Array, params: Any = None) -> Array:
        shown = self._of_probe(state, [probe.observe(state) for probe in self.probes])
        return jnp.append(jax.nn.one_hot(state.probe, len(self.probes)), shown)

    def reward(self, state: Cue, action: Array, next_state: Cue, rng: Array, params: Any = None) -> Array:
        return self._of_probe(state, [probe.pay(state, action) for probe in self.probes])

    def terminal(self, state: Cue, rng: Array, params: Any = None) -> Array:
        never = 2 * PROBE_LIMIT
        return state.t >= self._of_probe(
            state, [never if probe.length is None else probe.length for probe in self.probes]
        )


def _nothing(cue: Cue) -> Array:
    return jnp.zeros(())


def _sign(cue: Cue) -> Array:
    return cue.sign


def _time(cue: Cue) -> Array:
    return cue.t.astype(jnp.float32)


def _one(cue: Cue, action: Array) -> Array:
    return jnp.ones(())


def _right(action: Array) -> Array:
    """+1 for action 1, -1 for action 0."""
    return 2 * action.astype(jnp.float32) - 1


PROBE_LIMIT = 2
PROBES = {
    "value": Probe(_nothing, _one, {0: (1, None)}),
    "observed_value": Probe(_sign, lambda cue, action: cue.sign, {-1: (-1, None), 1: (1, None)}),
    "discounting": Probe(_time, lambda cue, action: _time(cue), {0: (GAMMA, None), 1: (1, None)}, length=2),
    "no_end": Probe(_nothing, _one, {0: (1 / (1 - GAMMA), None)}, length=None),
    "which_action": Probe(_nothing, lambda cue, action: _right(action), {0: (1, 1)}),
    "action_times_observation": Probe(_sign, lambda cue, action: cue.sign * _right(action), {-1: (1, 0), 1: (1, 1)}),
}
BOX_PROBES = {
    "box_action": Probe(_nothing, lambda cue, action: 1 - jnp.square(action[0] - 0.5), {0: (1, 0.5)}),
    "box_action_times_observation": Probe(
        _sign, lambda cue, action: 1 - jnp.square(action[0] - 0.5 * cue.sign), {-1: (1, -0.5), 1: (1, 0.5)}
    ),
}
MEDLEYS = {"discrete": Medley(PROBES, Discrete(2)), "box": Medley(BOX_PROBES, Box(-2.0, 2.0, (1,)))}


class Place(NamedTuple):
    """The scripted environments' state: the episode's number and the steps taken in it, int32."""

    number: Array
    t: Array


class ScriptedOnDevice(FuncEnv[Place, Array, Array, Array, Array, Any, Any]):
    """Draws each episode's number; episode i terminates after ``steps[i]`` steps. Observes and pays as ``Scripted``."""

    observation_space = Box(0.0, np.inf, (2,))

    def __init__(self, steps: tuple[int, ...], action_space: Space) -> None:
        super().__init__()
        self.steps, self.action_space = steps, action_space

    def initial(self, rng: Array, params: Any = None) -> Place:
        return Place(jax.random.randint(rng, (), 0, len(self.steps)), jnp.zeros((), jnp.int32))

    def transition(self, state: Place, action: Array, rng: Array, params: Any = None) -> Place:
        return state._replace(t=state.t + 1)

    def observation(self, state: Place, rng: Array, params: Any = None) -> Array:
        return jnp.stack(state).astype(jnp.float32)

    def reward(self, state: Place, action: Array, next_state: Place, rng: Array, params: Any = None) -> Array:
        return (100 * state.number + 10 * state.t).astype(jnp.float32) + jnp.sum(action).astype(jnp.float32)

    def terminal(self, state: Place, rng: Array, params: Any = None) -> Array:
        return state.t >= jnp.asarray(self.steps)[state.number]


Episode: TypeAlias = tuple[int, int, str]  # its number, its steps, and one of ENDS
Script: TypeAlias = Sequence[Sequence[Episode]]  # the episodes of each environment; both sequences repeat

ENDS = ("terminated", "truncated", "both")
OBSERVATIONS: dict[str, Space] = {
    "float32": Box(0.0, np.inf, (2,)),
    "float64": Box(0.0, np.inf, (2,), np.float64),
    "discrete": Discrete(100),
}
ACTIONS: dict[str, Space] = {
    "discrete": Discrete(8),
    "from_5": Discrete(3, start=5),
    "box": Box(np.array([-0.5, 0.25], np.float32), np.array([0.25, 0.5], np.float32)),
}


class Scripted(gymnasium.Env[Any, Any]):
    """Plays ``script[index]``; its index is the seed of its reset, so that each copy in a vector has its own.

    It observes (number, t), or 10 number + t, and pays 100 number + 10 t + the sum of the action, which must be a
    member of the space. ``fault`` is (what, index, step): in that step, counted from 0 over all episodes, it
    raises, or gives the "observation" or "reward" NaN.
    """

    def __init__(
        self,
        script: Script = (((0, 3, "terminated"),),),
        observation: str = "float32",
        action: str = "discrete",
        fault: tuple[str, int, int] = ("none", 0, 0),
    ) -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.script, self.fault = script, fault
        self.index = self.played = self.t = self.steps = 0

    @property
    def _episode(self) -> Episode:
        own = self.script[self.index % len(self.script)]
        return own[self.played % len(own)]

    def _observation(self) -> Any:
        number, *_ = self._episode
        if isinstance(self.observation_space, Discrete):
            return np.int64(10 * number + self.t)
        return np.array([number, self.t], self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.index, self.played = seed, 0
        elif self.t:
            self.played += 1
        self.t = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        what, index, step = self.fault
        broken = what if (index, step) == (self.index, self.steps) else "none"
        if broken == "raise":
            raise RuntimeError("out of order")
        number, steps, end = self._episode
        reward = float("nan") if broken == "reward" else 100.0 * number + 10.0 * self.t + float(np.sum(action))
        self.t, self.steps = self.t + 1, self.steps + 1
        obs = self._observation() * (np.nan if broken == "observation" else 1)
        over = self.t >= steps
        return obs, reward, over and end != "truncated", over and end != "terminated", {}


VARIANTS: dict[str, dict[str, Any]] = {
    "Scripted-v0": {},
    "OneStep-v0": {"script": [[[0, 1, "terminated"], [1, 1, "truncated"]]]},
    "ActionsFrom5-v0": {"action": "from_5"},
    "BoxActions-v0": {"action": "box"},
    "Float64-v0": {"observation": "float64"},
    "DiscreteObservations-v0": {"observation": "discrete"},
}
for _name, _kwargs in VARIANTS.items():
    gymnasium.register(f"probes/{_name}", f"{__name__}:Scripted", kwargs=_kwargs)


def scripted(
    script: Script,
    mode: AutoresetMode | None = None,
    limit: int | None = None,
    name: str = "Scripted-v0",
    **kwargs: Any,
) -> HostEnv:
    """A registered variant of ``Scripted`` with a script, an autoreset mode and Gymnasium's time limit."""
    env = rlgd.envs.make(f"probes/{name}", backend="host", max_episode_steps=limit, script=script, **kwargs)
    assert isinstance(env, HostEnv)
    return dataclasses.replace(env, autoreset_mode=mode)


def script_of(rollouts: Sequence[Rollout], steps: tuple[int, ...]) -> Script:
    """The episodes that ``ScriptedOnDevice(steps)`` drew, in their order, for ``Scripted`` to repeat."""
    obs = np.concatenate([*(np.asarray(rows.obs) for rows in rollouts), np.asarray(rollouts[-1].last_obs)[None]])
    return [
        [(int(number), steps[int(number)], "terminated") for number, t in own if t == 0] for own in obs.swapaxes(0, 1)
    ]


initialize = jax.jit(training.initialize, static_argnums=(1, 3))
collect = jax.jit(device_rollout.collect, static_argnums=1)


def enter(env: HostEnv, loop: LoopState) -> tuple[HostVector, LoopState]:
    """Running environments, and the loop at the first observation of each."""
    vector = env.open(loop.first.shape[0])
    return vector, dataclasses.replace(loop, obs=jnp.asarray(vector.reset(0)))


def linear_policy(spec: Spec, weights: Any, bias: Any, box_distribution: str = "gaussian") -> Policy:
    """A policy with the outputs ``weights [outputs, features] x + bias [outputs]``."""
    agent = PPO(hidden_sizes=(), box_distribution=box_distribution)
    params = agent.networks(spec).init(jax.random.key(0)).policy
    layer = {"kernel": jnp.asarray(weights, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    assert jax.tree.map(jnp.shape, params["network"]) == {"OutputLayer_0": jax.tree.map(jnp.shape, layer)}
    return Policy(agent, spec, Actor(params | {"network": {"OutputLayer_0": layer}}, None))


def as_numpy(rows: Rollout) -> Any:
    """The rollout with NumPy arrays; without a mask all rows are real."""
    mask = jnp.ones(rows.reward.shape, bool) if rows.mask is None else rows.mask
    return jax.tree.map(np.array, dataclasses.replace(rows, mask=mask))
