"""What a short play with random actions shows of an environment: whether its observations hide what the past shows."""

import contextlib
from collections.abc import Iterator
from typing import TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray

from rlgd.envs.device.device_env import DeviceEnv
from rlgd.envs.device.gym_vector import DeviceVectorEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.envs.registry import Env, in_gymnasium
from rlgd.pytrees import Obs
from rlgd.spaces import BoxSpec, ObsSpec, leaves

Rows: TypeAlias = NDArray[np.float64]

STEPS = 2_048  # of the play
LEAST_ROWS = 256  # below, a fit says nothing
HELD_OUT = 4  # one row in so many is predicted, the others fit
MOST_SQUARED = 24  # inputs; with more, products of two would be more columns than there are rows
MOST_INPUTS = 200
RIDGE = 1e-6
# Velocities that are hidden: 0.67 and more is left unexplained by the present, less than 0.02 with the past. In
# CartPole, Pendulum, MountainCar, Acrobot, LunarLander and seven tasks of MuJoCo the past takes at most a half.
HIDDEN, SHOWN = 0.3, 0.1


def hides_state(env: Env, seed: int = 0) -> bool | None:
    """Whether the past predicts a change of an observed number that the present observation does not.

    Two functions of second degree are fitted to the play: the change of each number by observation and action, and by
    those of the step before too. The observations hide something if for some number the first leaves more than
    ``HIDDEN`` of the variance unexplained, and the second less than the share ``SHOWN`` of that.

    Args:
        env: is played for ``STEPS`` steps.
        seed: of environment and actions.

    Returns:
        None if it cannot be said: the observations have no plain numbers, or too many; actions are masked; episodes
        are too short; or the environment is a running vector environment, which is left as it is.

    Raises:
        EnvironmentFault: if the environment breaks.
    """
    env = in_gymnasium(env)  # there nothing is compiled
    if not isinstance(env, DeviceEnv) and env.running:
        return None
    present, past, change = [], [], []
    for before, action_before, now, action, after in _triples(env, seed):
        present.append(np.concatenate([now, action]))
        past.append(np.concatenate([now - before, action_before]))
        change.append(after - now)
    if len(change) < LEAST_ROWS or not 0 < len(present[0]) <= MOST_INPUTS:
        return None
    inputs, targets = np.hstack([present, past]), np.array(change)
    squared = inputs.shape[1] <= MOST_SQUARED
    with_present, with_past = (_unexplained(x, targets, squared) for x in (np.array(present), inputs))
    return bool(np.any((with_present > HIDDEN) & (with_past < SHOWN * with_present)))


def _triples(env: Env, seed: int) -> Iterator[tuple[Rows, Rows, Rows, Rows, Rows]]:
    """Of each pair of steps in an episode: observation and action, observation and action, observation."""
    with contextlib.closing(_one(env)) as vector:
        obs, row = vector.reset(seed), None
        actions, single = vector.vector.action_space, vector.vector.single_action_space
        actions.seed(seed)
        for _ in range(STEPS):
            now = _numbers(env.spec.obs, obs)
            if not len(now) or vector.action_mask is not None:
                return
            action = actions.sample()
            step = vector.step(action)
            flat = np.ravel(gymnasium.spaces.flatten(single, next(iter(iterate(actions, action))))).astype(np.float64)
            ended = bool(step.terminated[0] or step.truncated[0])
            if not step.valid[0] or ended:
                row = None
            else:
                if row is not None:
                    yield (*row, now, flat, _numbers(env.spec.obs, step.obs))
                row = now, flat
            obs = step.obs


def _one(env: Env) -> HostVector:
    """One environment, with the same interface wherever it runs."""
    if isinstance(env, DeviceEnv):
        return HostVector(DeviceVectorEnv(env, 1), env.spec, env.env_id)
    return env.open(1)


def _numbers(spec: ObsSpec, obs: Obs) -> Rows:
    """The plain numbers of the first environment's observation: no images, nothing that is counted."""
    plain = [leaf for part, leaf in leaves(spec, obs) if isinstance(part, BoxSpec) and part.dtype.startswith("f")]
    parts = [np.ravel(leaf[0]) for leaf in plain if leaf.ndim <= 2]  # more axes may be an image's
    return np.concatenate([*parts, np.zeros(0)], dtype=np.float64)


def _unexplained(inputs: Rows, targets: Rows, squared: bool) -> Rows:
    """The share of each target's variance that a fit misses: ``[K]`` of ``inputs [N, I]`` and ``targets [N, K]``."""
    scaled = (inputs - inputs.mean(0)) / np.maximum(inputs.std(0), 1e-8)
    columns = [np.ones((len(scaled), 1)), scaled]
    if squared:
        first, second = np.triu_indices(scaled.shape[1])
        columns.append(scaled[:, first] * scaled[:, second])
    features = np.hstack(columns)
    held_out = np.arange(len(features)) % HELD_OUT == 0
    fit = features[~held_out]
    weights = np.linalg.solve(fit.T @ fit + RIDGE * len(fit) * np.eye(fit.shape[1]), fit.T @ targets[~held_out])
    missed = np.square(targets[held_out] - features[held_out] @ weights).mean(0)
    return missed / np.maximum(targets[held_out].var(0), 1e-12)
