"""A vector environment whose every answer is checked."""

import copy
import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from numpy.typing import NDArray

from rlgd.envs.aliases import Bools, GymVector, Info
from rlgd.envs.check.play import Answer, Choice, as_array, choose_action, frozen, same
from rlgd.envs.check.report import GroupEnded, Log, quote
from rlgd.envs.check.single import RESET, check_spaces
from rlgd.envs.check.values import MASK, check_mask, check_member
from rlgd.spaces import Spec

MODE = "metadata['autoreset_mode']"
STEP = "every step must be possible; only with the autoreset mode DISABLED it may fail after an episode's end"


class Batch(NamedTuple):
    """What a reset (``reward`` None) or a step gave: ``obs`` frozen, arrays ``[N]``, and ``info`` as it came."""

    obs: Any
    reward: NDArray[Any] | None
    terminated: Bools
    truncated: Bools
    info: Info

    @property
    def done(self) -> Bools:
        return self.terminated | self.truncated

    def answer(self, n: SupportsIndex) -> Answer:
        """What the n-th environment gave."""
        reward = None if self.reward is None else self.reward[n]
        return Answer(single_obs(self.obs, n), reward, self.terminated[n], self.truncated[n])


def single_obs(obs: Any, n: SupportsIndex) -> Any:
    """The n-th environment's part of a frozen batch of observations."""
    if isinstance(obs, dict):
        return {name: single_obs(part, n) for name, part in obs.items()}
    return tuple(single_obs(part, n) for part in obs) if isinstance(obs, tuple) else obs[n]


class WatchedVector:
    """A vector environment; every answer is checked.

    Attributes:
        batch: its last answer.
        mode: the autoreset mode in its metadata; None if there is none.
        place: where it is, for findings.
    """

    def __init__(self, log: Log, vector: GymVector) -> None:
        self.log, self.vector = log, vector
        self.action = _check_attributes(log, vector).action
        self.mode = _claimed_mode(log, vector)
        self.place = "reset"
        nothing = np.zeros(vector.num_envs, bool)
        self.batch = Batch(None, None, nothing, nothing, {})
        self._given: tuple[Any, Any] = (None, None)  # the last observation itself, and a copy made when it came

    def reset(self, seed: int | None, options: Info | None = None) -> Batch:
        self.place = "reset" if options is None else f"{self.place}, reset with options['reset_mask']"
        result = self.log.call("reset", self.place, RESET, self.vector.reset, seed=seed, options=options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.log.fatal("reset", self.place, f"returned {quote(result)}, not (obs, info)", RESET)
        nothing = np.zeros(self.vector.num_envs, bool)
        return self._check(result[0], None, nothing, nothing, result[1])

    def step(self, t: int, actions: Any) -> Batch:
        self.place = f"step {t}" + (", the one after an episode's end" if self.batch.done.any() else "")
        sent = copy.deepcopy(actions)
        result = self.log.call("step", self.place, STEP, self.vector.step, sent)
        if not isinstance(result, tuple) or len(result) != 5:
            remedy = "return obs, rewards, terminated, truncated, infos"
            raise self.log.fatal("step", self.place, f"returned {quote(result)}, not five values", remedy)
        if not same(frozen(actions), frozen(sent)):
            what = f"the environment changed the array of the actions from {quote(actions)} to {quote(sent)}"
            self.log.add("fault", "action changed", self.place, what, "work on a copy of the actions")
        return self._check(*result)

    def random_step(self, t: int, rng: np.random.Generator) -> Batch:
        """One step of random actions; with the mode DISABLED, the environments that end are then reset."""
        batch = self.step(t, self.choose_actions([rng] * self.vector.num_envs))
        if self.mode is AutoresetMode.DISABLED and batch.done.any():
            after = self.reset(None, {"reset_mask": batch.done})
            for n in np.flatnonzero(~batch.done):
                if not same(single_obs(batch.obs, n), single_obs(after.obs, n)):
                    what = f"environment {n} was not to be reset, but shows another observation"
                    self.log.add("fault", "reset mask", self.place, what, "reset only where the mask is true")
        return batch

    def try_step(self, t: int, actions: Any) -> Batch | None:
        """``step`` without findings; None if it fails."""
        log, self.log = self.log, Log()
        try:
            return self.step(t, actions)
        except GroupEnded:
            return None
        finally:
            self.log = log

    def choose_actions(self, choices: Sequence[Choice]) -> Any:
        """A batch of actions, each by ``choose_action`` and the masks of the last answer."""
        space, masks = self.vector.single_action_space, self.batch.info.get("action_mask")
        actions = [choose_action(space, None if masks is None else masks[n], each) for n, each in enumerate(choices)]
        blank: Any = create_empty_array(space, len(actions))
        return concatenate(space, actions, blank)

    def _check(self, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Batch:
        check_member(self.log, self.place, self.vector.observation_space, obs)
        if not isinstance(info, dict):
            raise self.log.fatal("info", self.place, f"info is {quote(info)}", "return a dictionary")
        given, copied = self._given
        if given is not None and not same(frozen(given), copied):
            what = "the observations before it have changed: both are one buffer"
            self.log.add("note", "aliasing", self.place, what, "allowed; copy the observations that you keep")
        self._given = obs, frozen(obs)
        rewards = None if reward is None else self._numbers("reward", reward, "iuf")
        ended, cut = self._numbers("terminated", terminated, "b"), self._numbers("truncated", truncated, "b")
        self.batch = Batch(frozen(obs), rewards, ended, cut, info)
        self._check_masks(self.batch)
        return self.batch

    def _check_masks(self, batch: Batch) -> None:
        if "action_mask" not in batch.info:
            return
        masks, given = as_array(batch.info["action_mask"]), batch.info.get("_action_mask")
        if masks.shape[:1] != (self.vector.num_envs,):
            what = f"info['action_mask'] has the shape {masks.shape}, without a row for each environment"
            raise self.log.fatal("action mask", self.place, what, MASK)
        for n, mask in enumerate(masks):
            if given is None or given[n]:
                check_mask(self.log, self.place, self.action, mask, bool(batch.done[n]))

    def _numbers(self, name: str, values: Any, kinds: str) -> NDArray[Any]:
        array, shape = as_array(values), (self.vector.num_envs,)
        if array.shape != shape or array.dtype.kind not in kinds:
            what = f"{name} is {quote(values)}, of shape {array.shape} and {array.dtype}"
            remedy = f"give an array of shape {shape} of {'bool' if kinds == 'b' else 'real numbers'}"
            raise self.log.fatal(name, self.place, what, remedy)
        if not np.all(np.isfinite(array)):
            n = int(np.flatnonzero(~np.isfinite(array))[0])
            self.log.add("fault", name, self.place, f"is {array[n]}", "give finite numbers", name, (n,))
        return array


def _check_attributes(log: Log, vector: GymVector) -> Spec:
    owner = type(vector).__name__
    roles = ("observation", "action")
    spec = check_spaces(log, owner, *(getattr(vector, f"single_{role}_space", None) for role in roles))
    count = getattr(vector, "num_envs", None)
    if not isinstance(count, int) or count < 1:
        raise log.fatal("num_envs", owner, f"num_envs is {quote(count)}", "set it to the number of environments")
    for role in roles:
        expected = batch_space(getattr(vector, f"single_{role}_space"), count)
        batch = getattr(vector, f"{role}_space", None)
        if batch is None or not is_space_dtype_shape_equiv(batch, expected):
            remedy = f"gymnasium.vector.utils.batch_space(single_{role}_space, num_envs) makes it"
            raise log.fatal("spaces", owner, f"{role}_space is {quote(batch)}, not {quote(expected)}", remedy)
    return spec


def _claimed_mode(log: Log, vector: GymVector) -> AutoresetMode | None:
    metadata = vector.metadata or {}
    mode = metadata.get("autoreset_mode")
    if isinstance(mode, AutoresetMode):
        return mode
    similar = difflib.get_close_matches("autoreset_mode", map(str, metadata), n=1, cutoff=0.8)
    if mode is not None:
        what = f"is {quote(mode)}, not an AutoresetMode"
    else:
        what = f"is missing, but there is the key {similar[0]!r}" if similar else "is missing"
    remedy = "set it to an AutoresetMode of gymnasium.vector"
    log.add("fault", "metadata", type(vector).__name__, what, remedy, MODE)
    return None
