"""How an environment is made, and how each one is watched. Worker processes import this module: it imports no JAX."""

import copy
import dataclasses
import importlib
import os
import statistics
import textwrap
import time
import traceback
from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TimeLimit
from numpy.typing import NDArray

from rlgd.envs.twins import NAMESPACE
from rlgd.errors import UsageError

Env: TypeAlias = gymnasium.Env[Any, Any]
Space: TypeAlias = gymnasium.Space[Any]

ATARI = "ALE"  # the namespace of ale-py's environments
ATARI_FRAMES = 4  # a step repeats its action so often, and an observation holds so many

MEASURED_STEPS, MEASURED_SECONDS = 20, 0.2


def num_cores() -> int:
    """Those that this process may use, where the system tells; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes an environment; can be sent to a worker process.

    Attributes:
        source: the registered description of a Gymnasium id, a ``gymnasium.Env`` class, a function that makes one, or
            one, of which copies are made.
        kwargs: arguments for all but the last.
        max_episode_steps: the time limit; None leaves the one that the environment has.
    """

    source: Any
    kwargs: Mapping[str, Any]
    max_episode_steps: int | None = None

    def __call__(self) -> Env:
        """A new environment.

        Raises:
            UsageError: if the source cannot be copied, or makes something else.
        """
        if isinstance(self.source, EnvSpec):
            return self._registered(self.source)
        made = _copied(self.source) if isinstance(self.source, gymnasium.Env) else self.source(**self.kwargs)
        if not isinstance(made, gymnasium.Env):
            raise UsageError(f"{self.source!r} made {made!r}; it must make a gymnasium.Env.")
        return self._limited(made)

    def _registered(self, spec: EnvSpec) -> Env:
        arguments = {"disable_env_checker": True, **self.kwargs}
        load_namespace(spec.id)
        if spec.namespace == ATARI:  # its limit counts steps, of which each is several of ale-py's
            return self._limited(_wrapped(spec.id, gymnasium.make(spec, **{"frameskip": 1, **arguments})))
        return gymnasium.make(spec, max_episode_steps=self.max_episode_steps, **arguments)

    def _limited(self, env: Env) -> Env:
        return env if self.max_episode_steps is None else TimeLimit(env, self.max_episode_steps)


def _wrapped(env_id: str, env: Env) -> Env:
    """An environment of ale-py's as it is learned from: Gymnasium's preprocessing, ``uint8 [4, 84, 84]``.

    It stays as it is where the arguments ask for something else than one image a frame.
    """
    if len(env.observation_space.shape or ()) < 2 or getattr(env.unwrapped, "_frameskip", None) != 1:
        return env
    return FrameStackObservation(AtariPreprocessing(env, frame_skip=ATARI_FRAMES), ATARI_FRAMES)


def registered(env_id: str) -> EnvSpec:
    """Gymnasium's description of an id; ids of Atari games, and of a ``module:`` in front, become known here.

    Raises:
        UsageError: if ale-py or the module is missing.
        gymnasium.error.Error: if there is no such id.
    """
    load_namespace(env_id)
    return gymnasium.spec(env_id.partition(":")[2] or env_id)


def load_namespace(env_id: str) -> None:
    """Import what registers an id, where that is not Gymnasium: ale-py for ``ALE/...``, the module of ``module:...``.

    Ids out of a file are not brought here if they have a module in front.

    Raises:
        UsageError: if it is not installed.
    """
    module, colon, _ = env_id.partition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise UsageError(f"the module of {env_id} cannot be imported: {error}.") from error
    if env_id.partition("/")[0] == ATARI:
        try:
            ale_py = importlib.import_module("ale_py")
        except ImportError as error:
            raise UsageError(f"{env_id} needs ale-py ({error}): pip install 'rlgd[atari]'.") from error
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # each game would say its version


def why_not_native(env_id: str) -> str | None:
    """Why Gymnasium's own vector environment for an id is not used; None where there is a sound one."""
    spec = registered(env_id)
    if spec.vector_entry_point is None:
        return f"Gymnasium has no native vector environment for {env_id}"
    if spec.namespace == NAMESPACE:
        return f"the native vector environment of {env_id} runs on the device"
    if spec.namespace == ATARI:
        return f"the native vector environment of {env_id} clips rewards and has a preprocessing of its own"
    creator = spec.vector_entry_point
    made_by = load_env_creator(creator) if isinstance(creator, str) else creator
    if any(base.__name__ == "FunctionalJaxVectorEnv" for base in getattr(made_by, "__mro__", ())):
        return f"the native vector environment of {env_id} loses steps of all environments when one of them resets"
    return None


def median_step(env: Env) -> float:
    """Seconds of a step: the median of a few, with random actions; the first does not count, it may compile."""
    times: list[float] = []
    _, info = env.reset(seed=0)
    env.action_space.seed(0)
    while len(times) < 2 or (len(times) <= MEASURED_STEPS and sum(times[1:]) < MEASURED_SECONDS):
        mask = info.get("action_mask")
        action = env.action_space.sample() if mask is None else env.action_space.sample(mask)
        begun = time.perf_counter()
        _, _, terminated, truncated, info = env.step(action)
        times.append(time.perf_counter() - begun)
        if terminated or truncated:
            _, info = env.reset()
    return statistics.median(times[1:])


def _copied(env: Env) -> Env:
    try:
        return copy.deepcopy(env)
    except Exception as error:
        raise UsageError(
            f"{env} cannot be copied ({error}), and each of several environments needs a copy; give its class, its "
            "Gymnasium id or a function that makes it instead."
        ) from error


class Broken(Exception):
    """An environment broke its contract: its number, and what it did, to be read behind the number."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, what)
        self.number = number
        self.what = what

    def __str__(self) -> str:
        return f"environment {self.number} {self.what}"


class Checked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One of several environments: what it raises or gives that it must not becomes ``Broken``, with its number.

    Of the infos only ``action_mask`` is kept, as one bool array: all others would be gathered for nobody, which for
    MuJoCo takes longer than the physics.

    Args:
        number: which of the environments it is.
        alike: the observation space and the action space that all of them have.

    Raises:
        Broken: if its spaces are others.
    """

    def __init__(self, env: Env, number: int, alike: tuple[Space, Space]) -> None:
        super().__init__(env)
        self.number = number
        own = (env.observation_space, env.action_space)
        for role, mine, common in zip(("observation", "action"), own, alike, strict=True):
            if mine != common:
                raise Broken(
                    number, f"has the {role} space {mine}, one made before it {common}; all must have the same"
                )
        self._space = env.observation_space
        self._has_masks = isinstance(env.action_space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        try:
            answer = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._raised(error) from error
        obs, info = self._parts(answer, "reset", "(obs, info)", 2)
        return self._obs(obs), self._kept(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:
            answer = self.env.step(action)
        except Exception as error:
            raise self._raised(error) from error
        obs, reward, terminated, truncated, info = self._parts(
            answer, "step", "(obs, reward, terminated, truncated, info)", 5
        )
        obs = self._obs(obs)
        if terminated or truncated:
            obs = copy.deepcopy(obs)  # the reset behind it may write into the same memory
        return obs, self._reward(reward), terminated, truncated, self._kept(info)

    def _raised(self, error: Exception) -> Broken:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return Broken(self.number, f"raised {error!r} ({frame.filename}:{frame.lineno})")

    def _parts(self, answer: Any, method: str, expected: str, count: int) -> Any:
        if isinstance(answer, tuple | list) and len(answer) == count:
            return answer
        given = f"{len(answer)} values" if isinstance(answer, tuple | list) else type(answer).__name__
        raise Broken(self.number, f"returned {given} from {method}, which must return {expected},")

    def _obs(self, obs: Any) -> Any:
        wrong = misfit(self._space, obs)
        if wrong is not None:
            raise Broken(self.number, f"gave {wrong},")
        return obs

    def _reward(self, reward: Any) -> float:
        if isinstance(reward, float):
            return reward
        number = np.asarray(reward)
        if number.ndim > 0 or number.dtype.kind not in "fiub":
            raise Broken(self.number, f"gave the reward {_brief(reward)}, which must be one real number,")
        return float(number)

    def _kept(self, info: Any) -> dict[str, Any]:
        if not isinstance(info, Mapping):
            raise Broken(self.number, f"gave the info {_brief(info)}, which must be a dictionary,")
        mask = info.get("action_mask") if self._has_masks else None
        return {} if mask is None else {"action_mask": flat_mask(mask)}


def _brief(value: Any) -> str:
    return textwrap.shorten(repr(value), 80, placeholder="...")


def make_checked(number: int, maker: Maker, alike: tuple[Space, Space]) -> Checked:
    """A new environment, watched; see ``Checked``."""
    return Checked(maker(), number, alike)


def flat_mask(mask: Any) -> NDArray[np.bool_]:
    """An action mask as one bool array; of MultiDiscrete, whose mask is a tuple, one part behind the other."""
    if isinstance(mask, tuple | list):
        return np.concatenate([flat_mask(part) for part in mask])
    return np.ravel(mask).astype(bool)


def misfit(space: Space, obs: Any, name: str = "observation") -> str | None:
    """What is wrong with an observation's structure, shape or kind of numbers, in words; None where nothing is."""
    if isinstance(space, gymnasium.spaces.Dict):
        if not isinstance(obs, Mapping) or not space.spaces.keys() <= obs.keys():
            given = f"the keys {list(obs)}" if isinstance(obs, Mapping) else type(obs).__name__
            return f"as {name} {given}, which must have the keys {list(space)}"
        parts = ((part, obs[key], f"{name}[{key!r}]") for key, part in space.spaces.items())
        return next(filter(None, (misfit(*part) for part in parts)), None)
    if isinstance(space, gymnasium.spaces.Tuple):
        if not isinstance(obs, tuple) or len(obs) != len(space):
            return f"as {name} {_brief(obs)}, which must be a tuple of {len(space)} parts"
        pairs = enumerate(zip(space, obs, strict=True))
        return next(filter(None, (misfit(part, value, f"{name}[{i}]") for i, (part, value) in pairs)), None)
    if isinstance(obs, np.ndarray | np.generic) and obs.dtype == space.dtype and obs.shape == space.shape:
        return None
    try:
        given_shape, given_dtype = np.shape(obs), np.asarray(obs).dtype
    except ValueError:  # lists of different lengths
        return f"as {name} {_brief(obs)}, which must be an array of the shape {space.shape}"
    if given_shape != space.shape:
        return f"the {name} in the shape {given_shape}, which must be {space.shape}"
    assert space.dtype is not None
    # Numbers too many for the space's type are no misfit: that they are infinite in it is seen where they are stored.
    if not np.can_cast(given_dtype, space.dtype, "same_kind"):
        return f"the {name} as {given_dtype}, which must be {space.dtype}"
    return None
