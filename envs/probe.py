"""What a short play with random actions shows of an environment."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

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
HELD_OUT = 4  # every fourth row is predicted, the others fit
MOST_SQUARED = 24  # inputs; with more, products of two would be more columns than there are rows
MOST_INPUTS = 200
RIDGE = 1e-6
# Of hidden velocities the present leaves 0.5 and more unexplained, the past less than 0.02. Where all is observed and
# the present leaves more than 0.3, the past takes half of it at most.
HIDDEN, SHOWN = 0.3, 0.1
WEIGHTY = 10.0


class Probe(NamedTuple):
    """What was seen.

    Attributes:
        hides_state: whether the past predicts a change of an observed number that the present observation does not.
            None if it cannot be said: there are no plain numbers, or too many; actions are masked; episodes are too
            short; or it is a running vector environment, which is left as it is.
        end_weighs: whether the reward of a last step is ``WEIGHTY`` times as large as those before, in the mean.
    """

    hides_state: bool | None
    end_weighs: bool


class _Step(NamedTuple):
    """One step: ``obs`` and ``action`` as numbers, ``follows`` the observation after it; None where there is none."""

    obs: Rows
    action: Rows
    reward: float
    terminated: bool
    follows: Rows | None


def probe(env: Env, seed: int = 0) -> Probe:
    """Play ``STEPS`` steps with random actions.

    Two functions of second degree are fitted to the play: the change of each observed number by observation and action,
    and by those of the step before too. State is hidden if for some number the first leaves more than ``HIDDEN`` of the
    variance unexplained, and the second less than the share ``SHOWN`` of that.

    Args:
        env: in Gymnasium if the id is Gymnasium's, where nothing is compiled.
        seed: of environment and actions.

    Raises:
        EnvironmentFault: if the environment breaks.
    """
    env = in_gymnasium(env)
    if not isinstance(env, DeviceEnv) and env.running:
        return Probe(None, False)
    steps = list(_play(env, seed))
    return Probe(_hides_state(steps), _end_weighs(steps))


def _play(env: Env, seed: int) -> Iterator[_Step]:
    with contextlib.closing(_one(env)) as vector:
        obs = vector.reset(seed)
        actions, single = vector.vector.action_space, vector.vector.single_action_space
        actions.seed(seed)
        for _ in range(STEPS):
            if vector.action_mask is not None:
                return
            action = actions.sample()
            step = vector.step(action)
            if step.valid[0]:
                flat = gymnasium.spaces.flatten(single, next(iter(iterate(actions, action))))
                ended = bool(step.terminated[0] or step.truncated[0])
                yield _Step(
                    _numbers(env.spec.obs, obs),
                    np.ravel(np.asarray(flat)).astype(np.float64),
                    float(step.reward[0]),
                    bool(step.terminated[0]),
                    None if ended else _numbers(env.spec.obs, step.obs),
                )
            obs = step.obs


def _one(env: Env) -> HostVector:
    """One environment, with the same interface wherever it runs."""
    if isinstance(env, DeviceEnv):
        return HostVector(DeviceVectorEnv(env, 1), env.spec, env.env_id)
    return env.open(1)


def _numbers(spec: ObsSpec, obs: Obs) -> Rows:
    """The plain numbers of the first environment's observation: no images, nothing that is counted."""
    leaf_arrays = [np.asarray(leaf) for part, leaf in leaves(spec, obs) if _is_plain(part)]
    return np.concatenate([*(np.ravel(leaf[0]) for leaf in leaf_arrays), np.zeros(0)]).astype(np.float64)


def _is_plain(part: object) -> bool:
    return isinstance(part, BoxSpec) and part.dtype.startswith("f") and len(part.shape) < 2


def _hides_state(steps: list[_Step]) -> bool | None:
    pairs = [(a, b) for a, b in itertools.pairwise(steps) if a.follows is not None and b.follows is not None]
    if len(pairs) < LEAST_ROWS or not len(steps[0].obs):
        return None
    present = np.array([np.concatenate([now.obs, now.action]) for _, now in pairs])
    past = np.array([np.concatenate([now.obs - before.obs, before.action]) for before, now in pairs])
    change = np.array([now.follows - now.obs for _, now in pairs if now.follows is not None])
    inputs = np.hstack([present, past])
    if inputs.shape[1] > MOST_INPUTS:
        return None
    squared = inputs.shape[1] <= MOST_SQUARED
    with_present, with_past = (_unexplained(x, change, squared) for x in (present, inputs))
    return bool(np.any((with_present > HIDDEN) & (with_past < SHOWN * with_present)))


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


def _end_weighs(steps: list[_Step]) -> bool:
    last = [abs(step.reward) for step in steps if step.terminated]
    others = [abs(step.reward) for step in steps if not step.terminated]
    return bool(last and others) and float(np.mean(last)) > WEIGHTY * float(np.mean(others))
