"""An environment that reports its own faults. Worker processes import this module: it imports no JAX."""

import copy
import textwrap
import traceback
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from rlgd.envs.aliases import LIVES, SUCCESS, Bools, GymEnv, Info, Space
from rlgd.envs.host.maker import Maker


class Broken(Exception):
    """An environment broke its contract.

    Attributes:
        number: which of the environments; None if no single one can be named.
        what: what it did, as the rest of a sentence that begins with the environment.
    """

    def __init__(self, number: int | None, what: str) -> None:
        super().__init__(number, what)
        self.number = number
        self.what = what

    def __str__(self) -> str:
        return self.what if self.number is None else f"environment {self.number} {self.what}"


class Checked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One of several environments, whose faults and exceptions are raised as ``Broken`` with its number.

    Of its infos only ``action_mask`` is kept, as one bool array, and ``is_success``, ``lives`` and what is asked for,
    as numbers. Nobody reads the others, and gathering them takes longer than the physics of MuJoCo.

    Args:
        env: the environment.
        number: which of the environments it is.
        common_spaces: the observation space and the action space that all of them must have.
        log_info: names of numbers in its infos that are kept, too.

    Raises:
        Broken: if its spaces differ from these.
    """

    def __init__(
        self, env: GymEnv, number: int, common_spaces: tuple[Space, Space], log_info: tuple[str, ...] = ()
    ) -> None:
        super().__init__(env)
        self.number = number
        own = (env.observation_space, env.action_space)
        for role, mine, common in zip(("observation", "action"), own, common_spaces, strict=True):
            if mine != common:
                raise Broken(
                    number, f"has the {role} space {mine}, one made before it {common}; all must have the same"
                )
        self._log_info = log_info
        self._space = env.observation_space
        self._has_masks = isinstance(env.action_space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        try:
            answer = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._raised(error) from error
        obs, info = self._parts(answer, "reset", "(obs, info)", 2)
        return self._obs(obs), self._kept(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        try:
            answer = self.env.step(action)
        except Exception as error:
            raise self._raised(error) from error
        obs, reward, terminated, truncated, info = self._parts(
            answer, "step", "(obs, reward, terminated, truncated, info)", 5
        )
        obs = self._obs(obs)
        if terminated or truncated:
            obs = copy.deepcopy(obs)  # the reset that follows may write into the same memory
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

    def _kept(self, info: Any) -> Info:
        if not isinstance(info, Mapping):
            raise Broken(self.number, f"gave the info {_brief(info)}, which must be a dictionary,")
        mask = info.get("action_mask") if self._has_masks else None
        kept: Info = {} if mask is None else {"action_mask": flat_mask(mask)}
        for name in (SUCCESS, LIVES):
            if name in info and _is_number(info[name]):
                kept[name] = float(info[name])
        for name in self._log_info:
            if name in info:
                if not _is_number(info[name]):
                    raise Broken(self.number, f"gave the info {name!r} as {_brief(info[name])}, which is no number,")
                kept[name] = float(info[name])
        return kept


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (np.ndim(value) == 0 and np.asarray(value).dtype.kind in "fiub")


def _brief(value: Any) -> str:
    return textwrap.shorten(repr(value), 80, placeholder="...")


def make_checked(number: int, maker: Maker, common_spaces: tuple[Space, Space]) -> Checked:
    """A new ``Checked`` environment."""
    return Checked(maker(number), number, common_spaces, maker.log_info)


def flat_mask(mask: Any) -> Bools:
    """An action mask as one bool array; the parts of a MultiDiscrete mask, a tuple, are concatenated."""
    if isinstance(mask, tuple | list):
        return np.concatenate([flat_mask(part) for part in mask])
    return np.ravel(mask).astype(bool)


def misfit(space: Space, obs: Any, name: str = "observation") -> str | None:
    """What is wrong with an observation's structure, shape or kind of numbers, in words; None if nothing is."""
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
    return _array_misfit(space, obs, name)


def _array_misfit(space: Space, obs: Any, name: str) -> str | None:
    try:
        given = np.asarray(obs)
    except ValueError:  # lists of different lengths
        return f"as {name} {_brief(obs)}, which must be an array of the shape {space.shape}"
    if given.shape != space.shape:
        return f"the {name} in the shape {given.shape}, which must be {space.shape}"
    assert space.dtype is not None
    if not np.can_cast(given.dtype, space.dtype, "same_kind"):
        return f"the {name} as {given.dtype}, which must be {space.dtype}"
    # Floats too large for the space's type become infinite when they are stored, and are found there.
    exact = space.dtype.kind == "f" or np.can_cast(given.dtype, space.dtype)
    if not exact and np.any(given != given.astype(space.dtype)):
        return f"the {name} {_brief(obs)}, which {space.dtype} cannot hold"
    return None
