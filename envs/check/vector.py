"""Probes of a vector environment: what it gives, whether seeds determine it, whether its environments are apart."""

import copy
import dataclasses
import difflib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from numpy.typing import NDArray

from rlgd.envs.check.play import How, Row, as_array, difference, frozen, pick
from rlgd.envs.check.report import Log, Stop, quote
from rlgd.envs.check.single import RESET, check_spaces, compare_rows
from rlgd.envs.check.values import MASK, check_mask, check_member
from rlgd.spaces import Spec

Vector: TypeAlias = VectorEnv[Any, Any, Any]
Bools: TypeAlias = NDArray[np.bool_]

COMPARED_STEPS = 100  # how far two plays are compared
ENOUGH_ENDS = 8  # ended episodes after which no more are looked at
UNLIKELY = 0.01
MODE = "metadata['autoreset_mode']"
STEP = "every step must be possible; only if the autoreset mode is DISABLED not the one after an episode's end"


class Batch(NamedTuple):
    """What a reset (``reward`` None) or a step gave: ``obs`` frozen, arrays ``[N]``, and ``info`` as it came."""

    obs: Any
    reward: NDArray[Any] | None
    terminated: Bools
    truncated: Bools
    info: dict[str, Any]

    @property
    def done(self) -> Bools:
        return self.terminated | self.truncated

    def row(self, n: SupportsIndex) -> Row:
        """What the n-th environment gave."""
        reward = None if self.reward is None else self.reward[n]
        return Row(lane(self.obs, n), reward, self.terminated[n], self.truncated[n])


def lane(obs: Any, n: SupportsIndex) -> Any:
    """The n-th environment's part of a frozen batch of observations."""
    if isinstance(obs, dict):
        return {name: lane(part, n) for name, part in obs.items()}
    return tuple(lane(part, n) for part in obs) if isinstance(obs, tuple) else obs[n]


def same(one: Any, other: Any) -> bool:
    """Whether two frozen values are equal."""
    return difference(one, other) is None


class Lanes:
    """A vector environment whose every answer is looked at; ``mode`` is the autoreset mode that it claims to follow."""

    def __init__(self, log: Log, vector: Vector) -> None:
        self.log, self.vector = log, vector
        self.action = _check_attributes(log, vector).action
        self.mode = _claimed_mode(log, vector)
        self.place = "reset"
        nothing = np.zeros(vector.num_envs, bool)
        self.batch = Batch(None, None, nothing, nothing, {})
        self._given: tuple[Any, Any] = (None, None)  # the last observation as it was given, and a copy of then

    def reset(self, seed: int | None, options: dict[str, Any] | None = None) -> Batch:
        self.place = "reset" if options is None else f"{self.place}, reset with options['reset_mask']"
        result = self.log.call("reset", self.place, RESET, self.vector.reset, seed=seed, options=options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.log.stop("reset", self.place, f"returned {quote(result)}, not (obs, info)", RESET)
        nothing = np.zeros(self.vector.num_envs, bool)
        return self._look(result[0], None, nothing, nothing, result[1])

    def step(self, t: int, actions: Any) -> Batch:
        self.place = f"step {t}" + (", the one after an episode's end" if self.batch.done.any() else "")
        sent = copy.deepcopy(actions)
        result = self.log.call("step", self.place, STEP, self.vector.step, sent)
        if not isinstance(result, tuple) or len(result) != 5:
            remedy = "return obs, rewards, terminated, truncated, infos"
            raise self.log.stop("step", self.place, f"returned {quote(result)}, not five values", remedy)
        if not same(frozen(actions), frozen(sent)):
            what = f"the environment changed the array of the actions from {quote(actions)} to {quote(sent)}"
            self.log.add("fault", "action changed", self.place, what, "work on a copy of the actions")
        return self._look(*result)

    def forward(self, t: int, rng: np.random.Generator) -> Batch:
        """One step of random actions; if nothing else resets the environments that end, they are reset behind it."""
        batch = self.step(t, self.choose([rng] * self.vector.num_envs))
        if self.mode is AutoresetMode.DISABLED and batch.done.any():
            after = self.reset(None, {"reset_mask": batch.done})
            for n in np.flatnonzero(~batch.done):
                if not same(lane(batch.obs, n), lane(after.obs, n)):
                    what = f"environment {n} was not to be reset, but shows another observation"
                    self.log.add("fault", "reset mask", self.place, what, "reset only where the mask is true")
        return batch

    def try_step(self, t: int, actions: Any) -> Batch | None:
        """As ``step``, but None where that breaks off, which is not noted."""
        log, self.log = self.log, Log()
        try:
            return self.step(t, actions)
        except Stop:
            return None
        finally:
            self.log = log

    def choose(self, hows: Sequence[How]) -> Any:
        """A batch of actions, each chosen as ``pick`` does, by the masks of the last answer."""
        space, masks = self.vector.single_action_space, self.batch.info.get("action_mask")
        actions = [pick(space, None if masks is None else masks[n], how) for n, how in enumerate(hows)]
        blank: Any = create_empty_array(space, len(actions))
        return concatenate(space, actions, blank)

    def _look(self, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Batch:
        check_member(self.log, self.place, self.vector.observation_space, obs)
        if not isinstance(info, dict):
            raise self.log.stop("info", self.place, f"info is {quote(info)}", "return a dictionary")
        given, as_it_was = self._given
        if given is not None and not same(frozen(given), as_it_was):
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
            raise self.log.stop("action mask", self.place, what, MASK)
        for n, mask in enumerate(masks):
            if given is None or given[n]:
                check_mask(self.log, self.place, self.action, mask, bool(batch.done[n]))

    def _numbers(self, name: str, values: Any, kinds: str) -> NDArray[Any]:
        array, shape = as_array(values), (self.vector.num_envs,)
        if array.shape != shape or array.dtype.kind not in kinds:
            what = f"{name} is {quote(values)}, of shape {array.shape} and {array.dtype}"
            remedy = f"give an array of shape {shape} of {'bool' if kinds == 'b' else 'real numbers'}"
            raise self.log.stop(name, self.place, what, remedy)
        if not np.all(np.isfinite(array)):
            n = int(np.flatnonzero(~np.isfinite(array))[0])
            self.log.add("fault", name, self.place, f"is {array[n]}", "give finite numbers", name, (n,))
        return array


def _check_attributes(log: Log, vector: Vector) -> Spec:
    owner = type(vector).__name__
    roles = ("observation", "action")
    spec = check_spaces(log, owner, *(getattr(vector, f"single_{role}_space", None) for role in roles))
    count = getattr(vector, "num_envs", None)
    if not isinstance(count, int) or count < 1:
        raise log.stop("num_envs", owner, f"num_envs is {quote(count)}", "set it to the number of environments")
    for role in roles:
        expected = batch_space(getattr(vector, f"single_{role}_space"), count)
        batch = getattr(vector, f"{role}_space", None)
        if batch is None or not is_space_dtype_shape_equiv(batch, expected):
            remedy = f"gymnasium.vector.utils.batch_space(single_{role}_space, num_envs) makes it"
            raise log.stop("spaces", owner, f"{role}_space is {quote(batch)}, not {quote(expected)}", remedy)
    return spec


def _claimed_mode(log: Log, vector: Vector) -> AutoresetMode | None:
    metadata = vector.metadata or {}
    mode = metadata.get("autoreset_mode")
    if isinstance(mode, AutoresetMode):
        return mode
    similar = difflib.get_close_matches("autoreset_mode", map(str, metadata), n=1, cutoff=0.8)
    if mode is not None:
        what = f"is {quote(mode)}, not an AutoresetMode"
    else:
        what = f"is missing; what is there is called {similar[0]!r}" if similar else "is missing"
    remedy = "set it to an AutoresetMode of gymnasium.vector"
    log.add("fault", "metadata", type(vector).__name__, what, remedy, MODE)
    return None


class Share:
    """How often something was the case."""

    def __init__(self, cases: Sequence[bool] = ()) -> None:
        self.hits, self.total = sum(cases), len(cases)

    def add(self, case: bool) -> None:
        self.hits, self.total = self.hits + case, self.total + 1

    def always_unlike(self, usual: "Share") -> bool:
        """Whether it was always the case, which is unlikely by chance, as often as usual."""
        if usual.total == 0 or not 0 < self.hits == self.total:
            return False
        return ((usual.hits + 1) / (usual.total + 2)) ** self.total < UNLIKELY


class Range:
    """The range of the observations that begin episodes, a little widened."""

    def __init__(self, starts: Sequence[Any]) -> None:
        values = np.stack([_flatten(obs) for obs in starts])
        low, high = values.min(axis=0), values.max(axis=0)
        slack = 0.1 * (high - low)
        self.low, self.high = low - slack, high + slack

    def holds(self, obs: Any) -> bool:
        values = _flatten(obs)
        return bool(np.all((values >= self.low) & (values <= self.high)))


def _flatten(obs: Any) -> NDArray[np.float64]:
    parts = tuple(obs.values()) if isinstance(obs, dict) else obs
    return np.concatenate([_flatten(part) for part in parts]) if isinstance(parts, tuple) else np.ravel(parts) * 1.0


@dataclasses.dataclass
class Sights:
    """How often observations within episodes are like the one before, like the first, in the range of first ones."""

    still: Share = dataclasses.field(default_factory=Share)
    at_start: Share = dataclasses.field(default_factory=Share)
    fresh: Share = dataclasses.field(default_factory=Share)

    def add(self, obs: Any, before: Any, first: Any, starts: Range) -> None:
        self.still.add(same(before, obs))
        self.at_start.add(same(first, obs))
        self.fresh.add(starts.holds(obs))


def walk(lanes: Lanes, seed: int, steps: int, starts: Range) -> Sights:
    """Look at steps of random actions, until enough episodes have ended; what observations are usually like."""
    rng, vector = np.random.default_rng(seed), lanes.vector
    limit = None if vector.spec is None else vector.spec.max_episode_steps
    usual, beside = Sights(), Sights()
    first = lanes.reset(seed)
    ends, over, lengths = 0, first.done, np.zeros(vector.num_envs, int)
    for t in range(steps):
        before = lanes.batch
        batch = lanes.forward(t, rng)
        resets = over if lanes.mode is AutoresetMode.NEXT_STEP else batch.done
        for n in np.flatnonzero(~over & ~batch.done):
            sights = beside if resets.any() else usual
            sights.add(lane(batch.obs, n), lane(before.obs, n), lane(first.obs, n), starts)
        lengths = np.where(resets, 0, lengths + 1)
        if limit is not None and np.any(lengths > limit):
            what = f"the episode of environment {np.argmax(lengths)} goes on, although max_episode_steps is {limit}"
            lanes.log.add("fault", "time limit", lanes.place, what, "count the steps of each episode anew")
        over, ends = batch.done, ends + int(batch.done.sum())
        if ends >= ENOUGH_ENDS:
            break
    _check_transitions(lanes.log, usual, beside)
    return usual


def _check_transitions(log: Log, usual: Sights, beside: Sights) -> None:
    """Whether something else happens to the environments beside one that is reset."""
    if beside.still.always_unlike(usual.still):
        what = "stood still whenever one of them was reset: their transitions are lost"
    elif beside.fresh.always_unlike(usual.fresh):
        what = "began anew whenever one of them was reset"
    else:
        return
    remedy = "let a reset change nothing but the environments that ended"
    log.add("fault", "transitions", "steps with a reset", f"the others {what} ({beside.still.total} times)", remedy)


def probe_seeding(lanes: Lanes, make: Callable[[], Vector] | None, seed: int, steps: int, may: bool) -> bool:
    """Compare what a seed gives with what it gives again, and in another copy; whether it gives the same again.

    ``may``: whether it need not.
    """

    def play(lanes: Lanes) -> list[Row]:
        rng = np.random.default_rng(seed)
        batches = [lanes.reset(seed)]
        for t in range(min(steps, COMPARED_STEPS)):
            batches.append(lanes.forward(t, rng))
        return [Row(batch.obs, batch.reward, batch.terminated, batch.truncated) for batch in batches]

    first = play(lanes)
    again = compare_rows(lanes.log, first, play(lanes), "reset with the same seed", may)
    if make is not None:
        copied = Lanes(lanes.log, lanes.log.call("copies", "another copy", "let copies exist at once", make))
        compare_rows(lanes.log, first, play(copied), "in a copy, reset with the same seed", may)
        lanes.log.call("close", "close", "close must not raise", copied.vector.close)
    return again
