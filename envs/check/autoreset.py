"""Which autoreset mode a vector environment follows, by what it does where episodes end."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from gymnasium.vector import AutoresetMode

from rlgd.envs.check.play import HIGHEST, LOWEST, How, Row, frozen
from rlgd.envs.check.report import Log
from rlgd.envs.check.single import SEEDED, STARTS
from rlgd.envs.check.values import check_member
from rlgd.envs.check.vector import (
    ENOUGH_ENDS,
    MODE,
    Batch,
    Lanes,
    Range,
    Share,
    Sights,
    Vector,
    lane,
    probe_seeding,
    same,
    walk,
)

HOWS: tuple[How | None, ...] = (None, LOWEST, HIGHEST)  # None: at random
FINAL_OBS = "put a copy of the observation after the last transition there, for each environment that ended"


class Beginnings(NamedTuple):
    """How episodes begin.

    Attributes:
        starts: the range of the first observations.
        alike: how often two of them are equal.
        ignored: how often the first step is the same for every action.
        done: how often it ends the episode, whatever the action.
    """

    starts: Range
    alike: Share
    ignored: Share
    done: Share


class End(NamedTuple):
    """The end of an episode of one environment.

    Attributes:
        before, shown: the observation before its last step, and the one that this step showed.
        final: its ``info["final_obs"]``, or None.
        has_final_info: whether there was an ``info["final_info"]``.
        after: what it gave in the next step, for each of several actions; empty where that step is refused.
    """

    before: Any
    shown: Any
    final: Any
    has_final_info: bool
    after: Sequence[Row]


def _done(rows: Sequence[Row]) -> bool:
    """Whether a step ended an episode for every action."""
    return all(row.terminated or row.truncated for row in rows)


def _ignored(rows: Sequence[Row]) -> bool:
    """Whether a step was the same for every action, and ended no episode."""
    return not _done(rows) and all(same(tuple(rows[0]), tuple(row)) for row in rows[1:])


def probe_vector(
    log: Log, make: Callable[[], Vector] | None, vector: Vector, seed: int, steps: int, may: bool = False
) -> None:
    """Go through all probes of a vector environment.

    Args:
        log: where the findings go.
        make: makes another copy; None where there is but one, which is left open.
        vector: the first copy.
        seed: of resets and actions.
        steps: for how many steps its answers are looked at.
        may: whether a seed need not give the same again.
    """
    lanes = Lanes(log, vector)
    beginnings = _beginnings(lanes, seed)
    usual = walk(lanes, seed, steps, beginnings.starts)
    if probe_seeding(lanes, make, seed, steps, may):
        ends = list(_ends(lanes, seed, steps))
        if ends:
            _check_ends(lanes, ends, beginnings, usual)
        else:
            what = f"no episode ended within {steps} steps of random actions"
            log.add("note", "autoreset", "steps", what, f"whether {MODE} is true was not checked")
    if make is not None:
        log.call("close", "close", "close must not raise", vector.close)


def _beginnings(lanes: Lanes, seed: int) -> Beginnings:
    count = lanes.vector.num_envs
    starts, steps = [], []
    for s in range(seed, seed + STARTS):
        batches = []
        for how in HOWS:
            obs = lanes.reset(s).obs
            batches.append(lanes.step(0, lanes.choose([_how(how, s, n) for n in range(count)])))
        starts += [lane(obs, n) for n in range(count)]
        steps += [[batch.row(n) for batch in batches] for n in range(count)]
    alike = Share([same(one, other) for one, other in itertools.pairwise(starts)])
    ignored, done = (Share([test(rows) for rows in steps]) for test in (_ignored, _done))
    return Beginnings(Range(starts), alike, ignored, done)


def _how(how: How | None, seed: int, n: int) -> How:
    return np.random.default_rng([seed, n]) if how is None else how


def _ends(lanes: Lanes, seed: int, steps: int) -> Iterator[End]:
    """The first ends after each of several seeds, until there are enough, or ``steps`` are spent on reaching them."""
    count, found, spent = lanes.vector.num_envs, 0, 0
    while found < ENOUGH_ENDS and spent < steps:
        rng = np.random.default_rng(seed)
        played: list[Any] = []
        before = batch = lanes.reset(seed)
        while not batch.done.any() and len(played) < steps:
            before = batch
            played.append(lanes.choose([rng] * count))
            batch = lanes.step(len(played) - 1, played[-1])
        ended = np.flatnonzero(batch.done)
        choices = [lanes.choose([_how(how if n in ended else None, seed, n) for n in range(count)]) for how in HOWS]
        answers = [_replay(lanes, seed, played, batch, actions) for actions in choices if len(ended)]
        for n in ended:
            after = [answer.row(n) for answer in answers if answer is not None]
            final, has_final_info = _final_obs(batch.info, n), "final_info" in batch.info
            yield End(lane(before.obs, n), lane(batch.obs, n), final, has_final_info, after)
        found, spent, seed = found + len(ended), spent + len(played), seed + 1


def _replay(lanes: Lanes, seed: int, played: Sequence[Any], end: Batch, last: Any) -> Batch | None:
    """Take the actions ``played`` again, which must lead to the same end, and return what ``last`` gives.

    A DISABLED environment may refuse that one: None.
    """
    batch = lanes.reset(seed)
    for t, actions in enumerate(played):
        batch = lanes.step(t, actions)
    if not same((end.obs, end.terminated, end.truncated), (batch.obs, batch.terminated, batch.truncated)):
        what = "with the same seed and the same actions they are not the same"
        raise lanes.log.stop("determinism", "episodes' ends", what, SEEDED)
    step = lanes.try_step if lanes.mode is AutoresetMode.DISABLED else lanes.step
    return step(len(played), last)


def _final_obs(info: dict[str, Any], n: SupportsIndex) -> Any:
    values, given = info.get("final_obs"), info.get("_final_obs")
    if values is None or (given is not None and not given[n]):
        return None
    value = lane(values, n)
    return None if value is None else frozen(value)


def followed(ends: Sequence[End], beginnings: Beginnings, usual: Sights) -> AutoresetMode | None:
    """The autoreset mode that explains what happened at the ends; None where that is not certain.

    NEXT_STEP ignores the actions behind an end, though they matter in first steps. Nothing resets a DISABLED
    environment: it ends again, or goes on from where it ended. SAME_STEP gives the true final observation in the info
    and shows another one, or at least shows one of those with which episodes begin.
    """
    ignored, done = (Share([test(end.after) for end in ends]) for test in (_ignored, _done))
    fresh = Share([beginnings.starts.holds(end.shown) for end in ends])
    is_next_step = ignored.always_unlike(beginnings.ignored)
    if all(end.final is not None for end in ends):
        shows_another = any(not same(end.final, end.shown) for end in ends)
        return AutoresetMode.SAME_STEP if shows_another or not is_next_step else AutoresetMode.NEXT_STEP
    if is_next_step:
        return AutoresetMode.NEXT_STEP
    if done.always_unlike(beginnings.done):
        return AutoresetMode.DISABLED
    if ignored.hits < ignored.total:
        if fresh.always_unlike(usual.fresh):
            return AutoresetMode.SAME_STEP
        if fresh.hits == 0:
            return AutoresetMode.DISABLED
    return None


def _check_ends(lanes: Lanes, ends: Sequence[End], beginnings: Beginnings, usual: Sights) -> None:
    log, claimed = lanes.log, lanes.mode
    if not all(end.after for end in ends):  # only DISABLED environments may refuse to go on
        return
    real = followed(ends, beginnings, usual)
    if real is None:
        what = f"the autoreset mode cannot be told from {len(ends)} ends of episodes"
        log.add("note", "autoreset", "episodes' ends", what, f"it is taken to be what is in {MODE}")
    elif real is not claimed:
        said = "does not say which autoreset mode it follows" if claimed is None else f"says {claimed}"
        what = f"the environment {said}, but what it does is {real} ({len(ends)} ends of episodes)"
        log.add("fault", "autoreset mode", "episodes' ends", what, f"set it to {real}, or follow it", MODE)
        return
    if claimed is AutoresetMode.SAME_STEP:
        _check_same_step(lanes, ends, beginnings, usual)
    elif claimed is AutoresetMode.NEXT_STEP:
        _check_next_step(log, ends, beginnings, usual)


def _check_same_step(lanes: Lanes, ends: Sequence[End], beginnings: Beginnings, usual: Sights) -> None:
    log, place = lanes.log, "episodes' ends, info['final_obs']"
    if any(end.final is None for end in ends):
        log.add("fault", "final observation", place, "is missing", FINAL_OBS)
        return
    for end in ends:
        check_member(log, "episodes' ends", lanes.vector.single_observation_space, end.final, "info['final_obs']")
    is_first = _check_first_ones(log, place, [same(end.final, end.shown) for end in ends], FINAL_OBS, beginnings, usual)
    if not is_first and Share([same(end.final, end.before) for end in ends]).always_unlike(usual.still):
        what = "is always like the observation before the last step; right only where last steps change nothing"
        log.add("warning", "final observation", place, what, FINAL_OBS)
    if not all(end.has_final_info for end in ends):
        place, what = "episodes' ends, info['final_info']", "is missing: what the last step of an episode told is lost"
        log.add("warning", "final info", place, what, "put the info of the last transition there")


def _check_next_step(log: Log, ends: Sequence[End], beginnings: Beginnings, usual: Sights) -> None:
    place = "the step after an episode's end"
    rewards = [row.reward for end in ends for row in end.after if row.reward != 0]
    if rewards:
        what = f"pays {rewards[0]}, although it is only a reset"
        log.add("fault", "reward", place, what, "pay 0 in the step that resets", "reward")
    cases = [same(end.shown, end.after[0].obs) for end in ends]
    remedy = "show the observation after the last transition; the next step shows the new episode's first one"
    _check_first_ones(log, "steps that end an episode, observation", cases, remedy, beginnings, usual)


def _check_first_ones(
    log: Log, place: str, cases: Sequence[bool], remedy: str, beginnings: Beginnings, usual: Sights
) -> bool:
    """Whether observations at ends (``cases``) equal the next episodes' first ones too often for chance."""
    share = Share(cases)
    if share.always_unlike(beginnings.alike):
        what = "is the first one of the next episode: the true final observation is lost"
        log.add("fault", "final observation", place, what, remedy)
    elif share.always_unlike(usual.at_start):
        what = "is always like the first one of the next episode; right only where episodes end where they begin"
        log.add("warning", "final observation", place, what, remedy)
    else:
        return False
    return True
