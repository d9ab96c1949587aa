"""An environment whose faults are named."""

import copy
import textwrap
import traceback
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlgd.envs.host.maker import Env, Maker, Space


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
