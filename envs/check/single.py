"""Checks of a single environment: its answers against its spaces, Gymnasium's rules, and its own earlier answers."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from rlgd.envs.aliases import GymEnv
from rlgd.envs.check.play import HIGHEST, LOWEST, PARTS, Answer, Choice, choose_action, difference, frozen, play, same
from rlgd.envs.check.report import Log, quote
from rlgd.envs.check.values import MASK, check_mask, check_member, check_reward, typed
from rlgd.errors import UsageError
from rlgd.spaces import Spec
from rlgd.spaces import spec as describe_spaces

COMPARED_STEPS = 200  # for which two copies are compared
STARTS = 8  # number of first observations that are compared

RESET = "define reset(self, *, seed=None, options=None), call super().reset(seed=seed) in it, and return (obs, info)"
STEP = "return obs, reward, terminated, truncated, info from step"
SEEDED = (
    "draw all random numbers from self.np_random, which super().reset(seed=seed) seeds, and let reset clear all state"
)
INFO = "return a dictionary, {} if it is empty"


class _WatchedEnv:
    """An environment; every answer is checked, and so are its side effects."""

    def __init__(self, log: Log, env: GymEnv, spec: Spec) -> None:
        self.log, self.env, self.spec = log, env, spec
        self.episode, self.t = -1, 0
        self.mask: Any = None
        self._has_mask = False
        self._given: tuple[Any, Any] = (None, None)  # the last observation itself, and a copy made when it came
        self._global = _global_random_state()

    @property
    def place(self) -> str:
        step = f"step {self.t}" if self.t >= 0 else "reset"
        return step if self.episode == 0 else f"episode {self.episode}, {step}"

    def reset(self, seed: int | None) -> None:
        self.episode, self.t = self.episode + 1, -1
        result = self.log.call("reset", self.place, RESET, self.env.reset, seed=seed, options=None)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.log.fatal("reset", self.place, f"returned {typed(result)}, not (obs, info)", RESET)
        self._check(*result, over=False)

    def step(self, action: Any) -> bool:
        """Take one step; returns whether the episode is over."""
        self.t += 1
        sent = copy.deepcopy(action)
        remedy = "every action of the action space must be accepted, the corners too"
        result = self.log.call("step", f"{self.place}, action {quote(action)}", remedy, self.env.step, action)
        if not isinstance(result, tuple) or len(result) != 5:
            given = f"{len(result)} values" if isinstance(result, tuple) else typed(result)
            what = f"returned {given}, not the five (obs, reward, terminated, truncated, info)"
            raise self.log.fatal("step", self.place, what, STEP)
        obs, reward, terminated, truncated, info = result
        check_reward(self.log, self.place, reward)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                self.log.add("fault", "flags", self.place, f"is {typed(flag)}", "return a bool", name)
        if not same(frozen(action), frozen(sent)):
            what = f"the environment changed the array of the action from {quote(sent)} to {quote(action)}"
            self.log.add("fault", "action changed", self.place, what, "work on a copy of the action")
        over = bool(np.any(terminated)) or bool(np.any(truncated))
        self._check(obs, info, over)
        return over

    def _check(self, obs: Any, info: Any, over: bool) -> None:
        check_member(self.log, self.place, self.env.observation_space, obs)
        self._check_info(info, over)
        given, copied = self._given
        if given is not None and not same(frozen(given), copied):
            what = "the observation before it has changed: both are one buffer"
            self.log.add("fault", "aliasing", self.place, what, "return a new array each time, such as obs.copy()")
        self._given = obs, frozen(obs)
        if (now := _global_random_state()) != self._global:
            self._global = now
            what = "the global random state of numpy or random has changed"
            self.log.add("warning", "global random state", self.place, what, "use self.np_random")

    def _check_info(self, info: Any, over: bool) -> None:
        if not isinstance(info, dict):
            self.log.add("fault", "info", self.place, f"is {typed(info)}", INFO, "info")
            return
        if "action_mask" in info:
            check_mask(self.log, self.place, self.spec.action, info["action_mask"], over)
        elif self._has_mask and not over:
            self.log.add("fault", "action mask", self.place, "is missing", MASK, "info['action_mask']")
        self._has_mask = self._has_mask or "action_mask" in info
        self.mask = info.get("action_mask")


def _global_random_state() -> tuple[Any, ...]:
    _, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (environments may use it)
    return (np.asarray(keys).tobytes(), *rest, random.getstate())


def check_answers(log: Log, env: GymEnv, seed: int, steps: int) -> None:
    """Check everything that an environment gives, for ``steps`` steps of random actions."""
    names = ("observation_space", "action_space")
    spec = check_spaces(log, type(env.unwrapped).__name__, *(getattr(env, name, None) for name in names))
    _walk(log, _WatchedEnv(log, env, spec), seed, steps)
    _check_starts(log, env, seed)


def check_spaces(log: Log, owner: str, observation_space: Any, action_space: Any) -> Spec:
    """The description of the spaces; ends the group if they are not supported."""
    for role, space in (("observation", observation_space), ("action", action_space)):
        if not isinstance(space, gymnasium.Space):
            what = f"the {role} space is {typed(space)}"
            raise log.fatal("spaces", owner, what, "set it to a gymnasium.Space in __init__")
    try:
        return describe_spaces(observation_space, action_space)
    except UsageError as error:
        what, _, remedy = str(error).partition("; ")
        raise log.fatal("spaces", owner, what, remedy) from error


def _walk(log: Log, watched: _WatchedEnv, seed: int, steps: int) -> None:
    """Take random actions, then the lowest and the highest one."""
    env, rng = watched.env, np.random.default_rng(seed)
    limit = None if env.spec is None else env.spec.max_episode_steps
    choices: list[Choice] = [*[rng] * steps, LOWEST, HIGHEST]
    watched.reset(seed)
    for choice in choices:
        if watched.step(choose_action(env.action_space, watched.mask, choice)):
            watched.reset(None)
        elif limit is not None and watched.t + 1 >= limit:
            what = f"the episode continues, although max_episode_steps is {limit}"
            log.add("fault", "time limit", watched.place, what, "count each episode's steps from 0, as TimeLimit does")
    if watched.episode == 0:
        what = f"no episode ended within {len(choices)} steps of random actions"
        remedy = "give a time limit, max_episode_steps, and --max-steps to evaluations"
        log.add("note", "endless", "steps", what, f"the time limit of {limit} will end them" if limit else remedy)


def _check_starts(log: Log, env: GymEnv, seed: int) -> None:
    def first(seed: int | None) -> Any:
        return frozen(log.call("reset", f"reset(seed={seed})", RESET, env.reset, seed=seed, options=None)[0])

    def differ(observations: list[Any]) -> bool:
        return not all(same(observations[0], obs) for obs in observations[1:])

    seeded = [first(seed + i) for i in range(STARTS)]
    unseeded = [first(None) for _ in range(STARTS)]
    if not differ(seeded):
        what = f"{STARTS} seeds gave the same first observation"
        log.add("note", "starts", "reset", what, "right if every episode begins in the same state")
    elif not differ(unseeded):
        what = "resets without a seed give the same first observation again and again"
        log.add(
            "warning", "starts", "reset", what, "seed self.np_random only where a seed is given, else keep using it"
        )


def check_determinism(log: Log, make: Callable[[], GymEnv] | None, env: GymEnv, seed: int, steps: int) -> list[Answer]:
    """Compare the answers under a seed with those of a second play, of a copy, and of a copy next to another one.

    Args:
        log: gets the findings.
        make: makes copies; None: there is only ``env``, which stays open.
        env: the first one.
        seed: of resets and actions.
        steps: compared, at most ``COMPARED_STEPS``.

    Returns:
        The answers of the first play.
    """

    def answers(*envs: GymEnv) -> list[Answer]:
        return log.call("determinism", "steps of random actions", STEP, play, envs, seed, min(steps, COMPARED_STEPS))[0]

    alone, may_vary = answers(env), varies(env)
    compare_answers(log, alone, answers(env), "in the same environment, reset with the same seed", may_vary)
    if make is not None:
        copies = [log.call("copies", "another copy", "let many copies exist at once", make) for _ in range(2)]
        compare_answers(log, alone, answers(copies[0]), "in a copy, reset with the same seed", may_vary)
        compare_answers(log, alone, answers(*copies), "in a copy while another one runs", may_vary)
        for one in (env, *copies):
            log.call("close", "close", "close must not raise", one.close)
    return alone


def varies(env: GymEnv) -> bool:
    """Whether the environment is registered as nondeterministic."""
    return env.spec is not None and env.spec.nondeterministic


def compare_answers(log: Log, alone: Sequence[Answer], others: Sequence[Answer], where: str, may_vary: bool) -> bool:
    """Add a finding where two plays first differ, a note if they ``may_vary``; returns whether they are the same."""
    for t, pair in enumerate(zip(alone, others, strict=False)):
        how = next(filter(None, (difference(a, b, name) for name, a, b in zip(PARTS, *pair, strict=True))), None)
        if how is not None:
            place = "reset" if t == 0 else f"call {t} after the reset"
            log.add("note" if may_vary else "fault", "determinism", place, f"{where}, {how}", SEEDED)
            return False
    return True
