"""Probes of a single environment: what it gives is compared with its spaces, with Gymnasium's rules and with itself."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from rlgd.envs.check.play import HIGHEST, LOWEST, ROW, Env, How, Row, difference, frozen, pick, play
from rlgd.envs.check.report import Log, quote
from rlgd.envs.check.values import MASK, check_mask, check_member, check_reward, typed
from rlgd.errors import UsageError
from rlgd.spaces import Spec
from rlgd.spaces import spec as describe_spaces

COMPARED_STEPS = 200  # how far two copies are compared
STARTS = 8  # how many first observations are looked at

RESET = "define reset(self, *, seed=None, options=None), call super().reset(seed=seed) in it, and return (obs, info)"
STEP = "return obs, reward, terminated, truncated, info from step"
SEEDED = (
    "draw all random numbers from self.np_random, which super().reset(seed=seed) seeds, and let reset clear all state"
)
INFO = "return a dictionary, {} where there is nothing to tell"


class _Watched:
    """An environment whose every answer is looked at, and what it does beside answering."""

    def __init__(self, log: Log, env: Env, spec: Spec) -> None:
        self.log, self.env, self.spec = log, env, spec
        self.episode, self.t = -1, 0
        self.mask: Any = None
        self._has_mask = False
        self._given: tuple[Any, Any] = (None, None)  # the last observation as it was given, and a copy of then
        self._global = _global_random_state()

    @property
    def place(self) -> str:
        step = f"step {self.t}" if self.t >= 0 else "reset"
        return step if self.episode == 0 else f"episode {self.episode}, {step}"

    def reset(self, seed: int | None) -> None:
        self.episode, self.t = self.episode + 1, -1
        result = self.log.call("reset", self.place, RESET, self.env.reset, seed=seed, options=None)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.log.stop("reset", self.place, f"returned {typed(result)}, not (obs, info)", RESET)
        self._look(*result, over=False)

    def step(self, action: Any) -> bool:
        """Whether the episode is over."""
        self.t += 1
        sent = copy.deepcopy(action)
        remedy = "every action of the action space must be accepted, the corners too"
        result = self.log.call("step", f"{self.place}, action {quote(action)}", remedy, self.env.step, action)
        if not isinstance(result, tuple) or len(result) != 5:
            given = f"{len(result)} values" if isinstance(result, tuple) else typed(result)
            what = f"returned {given}, not the five (obs, reward, terminated, truncated, info)"
            raise self.log.stop("step", self.place, what, STEP)
        obs, reward, terminated, truncated, info = result
        check_reward(self.log, self.place, reward)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                self.log.add("fault", "flags", self.place, f"is {typed(flag)}", "return a bool", name)
        if difference(frozen(action), frozen(sent)) is not None:
            what = f"the environment changed the array of the action from {quote(sent)} to {quote(action)}"
            self.log.add("fault", "action changed", self.place, what, "work on a copy of the action")
        over = bool(np.any(terminated)) or bool(np.any(truncated))
        self._look(obs, info, over)
        return over

    def _look(self, obs: Any, info: Any, over: bool) -> None:
        check_member(self.log, self.place, self.env.observation_space, obs)
        self._look_at_info(info, over)
        given, as_it_was = self._given
        if given is not None and difference(frozen(given), as_it_was) is not None:
            what = "the observation before it has changed: both are one buffer"
            self.log.add("fault", "aliasing", self.place, what, "return a new array each time, such as obs.copy()")
        self._given = obs, frozen(obs)
        if (now := _global_random_state()) != self._global:
            self._global = now
            what = "the global random state of numpy or random has changed"
            self.log.add("warning", "global random state", self.place, what, "use self.np_random")

    def _look_at_info(self, info: Any, over: bool) -> None:
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
    _, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (environments may use what must not be used)
    return (np.asarray(keys).tobytes(), *rest, random.getstate())


def probe_answers(log: Log, env: Env, seed: int, steps: int) -> None:
    """Look at everything that an environment gives, for ``steps`` steps of random actions."""
    names = ("observation_space", "action_space")
    spec = check_spaces(log, type(env.unwrapped).__name__, *(getattr(env, name, None) for name in names))
    _walk(log, _Watched(log, env, spec), seed, steps)
    _probe_starts(log, env, seed)


def check_spaces(log: Log, owner: str, observation_space: Any, action_space: Any) -> Spec:
    """The description of the spaces; without one no other probe makes sense."""
    for role, space in (("observation", observation_space), ("action", action_space)):
        if not isinstance(space, gymnasium.Space):
            what = f"the {role} space is {typed(space)}"
            raise log.stop("spaces", owner, what, "set it to a gymnasium.Space in __init__")
    try:
        return describe_spaces(observation_space, action_space)
    except UsageError as error:
        what, _, remedy = str(error).partition("; ")
        raise log.stop("spaces", owner, what, remedy) from error


def _walk(log: Log, watched: _Watched, seed: int, steps: int) -> None:
    """Random actions, and after the last of them the lowest and the highest."""
    env, rng = watched.env, np.random.default_rng(seed)
    limit = None if env.spec is None else env.spec.max_episode_steps
    actions: list[How] = [*[rng] * steps, LOWEST, HIGHEST]
    watched.reset(seed)
    for how in actions:
        if watched.step(pick(env.action_space, watched.mask, how)):
            watched.reset(None)
        elif limit is not None and watched.t + 1 >= limit:
            what = f"the episode goes on, although max_episode_steps is {limit}"
            log.add("fault", "time limit", watched.place, what, "count the steps of each episode anew: TimeLimit does")
    if watched.episode == 0:
        what = f"no episode ended within {len(actions)} steps of random actions"
        remedy = "give a time limit, max_episode_steps, and --max-steps to evaluations"
        log.add("note", "endless", "steps", what, f"the time limit of {limit} will end them" if limit else remedy)


def _probe_starts(log: Log, env: Env, seed: int) -> None:
    def first(seed: int | None) -> Any:
        return frozen(log.call("reset", f"reset(seed={seed})", RESET, env.reset, seed=seed, options=None)[0])

    def differ(observations: list[Any]) -> bool:
        return any(difference(observations[0], obs) for obs in observations[1:])

    seeded = [first(seed + i) for i in range(STARTS)]
    unseeded = [first(None) for _ in range(STARTS)]
    if not differ(seeded):
        what = f"{STARTS} seeds gave the same first observation"
        log.add("note", "starts", "reset", what, "fine where every episode begins alike")
    elif not differ(unseeded):
        what = "without a seed it begins the same episode again and again"
        log.add(
            "warning", "starts", "reset", what, "seed self.np_random only where a seed is given, else go on with it"
        )


def probe_determinism(log: Log, make: Callable[[], Env] | None, env: Env, seed: int, steps: int) -> list[Row]:
    """Compare what a seed gives with what it gives again, in a copy, and beside another copy.

    Args:
        log: where the findings go.
        make: makes copies; without it there is but one, which is left open.
        env: the first one.
        seed: of resets and actions.
        steps: for how many steps they are compared, if that is not too many.

    Returns:
        what the seed gave at first.
    """

    def rows(*envs: Env) -> list[Row]:
        return log.call("determinism", "steps of random actions", STEP, play, envs, seed, min(steps, COMPARED_STEPS))[0]

    alone, may = rows(env), varies(env)
    compare_rows(log, alone, rows(env), "in the same environment, reset with the same seed", may)
    if make is not None:
        copies = [log.call("copies", "another copy", "let many copies exist at once", make) for _ in range(2)]
        compare_rows(log, alone, rows(copies[0]), "in a copy, reset with the same seed", may)
        compare_rows(log, alone, rows(*copies), "in a copy beside which another one runs", may)
        for one in (env, *copies):
            log.call("close", "close", "close must not raise", one.close)
    return alone


def varies(env: Env) -> bool:
    """Whether the environment is registered as one that seeds do not determine."""
    return env.spec is not None and env.spec.nondeterministic


def compare_rows(log: Log, alone: Sequence[Row], others: Sequence[Row], where: str, may: bool) -> bool:
    """Note where two plays differ that should be the same; ``may``: where they may. Whether they are the same."""
    for t, pair in enumerate(zip(alone, others, strict=False)):
        how = next(filter(None, (difference(a, b, name) for name, a, b in zip(ROW, *pair, strict=True))), None)
        if how is not None:
            place = "reset" if t == 0 else f"call {t} after the reset"
            log.add("note" if may else "fault", "determinism", place, f"{where}, {how}", SEEDED)
            return False
    return True
