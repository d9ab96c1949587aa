"""Which autoreset mode a vector environment really follows, found from its answers around the ends of episodes."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from gymnasium.vector import AutoresetMode

from rlgd.envs.aliases import Info
from rlgd.envs.check.play import HIGHEST, LOWEST, Answer, Choice, frozen, same
from rlgd.envs.check.report import Log
from rlgd.envs.check.similarity import ObsRange, Share, Similarity
from rlgd.envs.check.single import SEEDED, STARTS
from rlgd.envs.check.values import check_member
from rlgd.envs.check.watched_vector import MODE, Batch, WatchedVector, single_obs

ENOUGH_ENDS = 8  # episodes' ends after which no more are looked for
CHOICES: tuple[Choice | None, ...] = (None, LOWEST, HIGHEST)  # None: at random
FINAL_OBS = "put a copy of the observation after the last transition there, for each environment that ended"


class EpisodeStarts(NamedTuple):
    """How episodes begin.

    Attributes:
        range: of the first observations.
        alike: how often two of them are equal.
        ignored: how often the first step is the same for every action.
        done: how often it ends the episode, whatever the action.
    """

    range: ObsRange
    alike: Share
    ignored: Share
    done: Share


class EpisodeEnd(NamedTuple):
    """The end of an episode of one environment.

    Attributes:
        before, shown: the observations before and after its last step.
        final: its ``info["final_obs"]``, or None.
        has_final_info: whether there was an ``info["final_info"]``.
        after: its answers to the next step, one for each of several actions; empty if that step fails.
    """

    before: Any
    shown: Any
    final: Any
    has_final_info: bool
    after: Sequence[Answer]


def _done(answers: Sequence[Answer]) -> bool:
    """Whether a step ended an episode for every action."""
    return all(answer.terminated or answer.truncated for answer in answers)


def _ignored(answers: Sequence[Answer]) -> bool:
    """Whether a step was the same for every action, and ended no episode."""
    return not _done(answers) and all(same(tuple(answers[0]), tuple(answer)) for answer in answers[1:])


def episode_starts(watched: WatchedVector, seed: int) -> EpisodeStarts:
    """Reset with several seeds, and compare the first observations and the first steps of different actions."""
    count = watched.vector.num_envs
    starts, steps = [], []
    for s in range(seed, seed + STARTS):
        batches = []
        for choice in CHOICES:
            obs = watched.reset(s).obs
            batches.append(watched.step(0, watched.choose_actions([_seeded(choice, s, n) for n in range(count)])))
        starts += [single_obs(obs, n) for n in range(count)]
        steps += [[batch.answer(n) for batch in batches] for n in range(count)]
    alike = Share([same(one, other) for one, other in itertools.pairwise(starts)])
    ignored, done = (Share([test(answers) for answers in steps]) for test in (_ignored, _done))
    return EpisodeStarts(ObsRange(starts), alike, ignored, done)


def _seeded(choice: Choice | None, seed: int, n: int) -> Choice:
    return np.random.default_rng([seed, n]) if choice is None else choice


def find_ends(watched: WatchedVector, seed: int, steps: int) -> Iterator[EpisodeEnd]:
    """The first end after each of several seeds, until there are enough, or ``steps`` steps were taken."""
    count, found, spent = watched.vector.num_envs, 0, 0
    while found < ENOUGH_ENDS and spent < steps:
        rng = np.random.default_rng(seed)
        played: list[Any] = []
        before = batch = watched.reset(seed)
        while not batch.done.any() and len(played) < steps:
            before = batch
            played.append(watched.choose_actions([rng] * count))
            batch = watched.step(len(played) - 1, played[-1])
        ended = np.flatnonzero(batch.done)
        choices = [
            watched.choose_actions([_seeded(choice if n in ended else None, seed, n) for n in range(count)])
            for choice in CHOICES
        ]
        answers = [_replay(watched, seed, played, batch, actions) for actions in choices if len(ended)]
        for n in ended:
            after = [answer.answer(n) for answer in answers if answer is not None]
            final, has_final_info = _final_obs(batch.info, n), "final_info" in batch.info
            yield EpisodeEnd(single_obs(before.obs, n), single_obs(batch.obs, n), final, has_final_info, after)
        found, spent, seed = found + len(ended), spent + len(played), seed + 1


def _replay(watched: WatchedVector, seed: int, played: Sequence[Any], end: Batch, last: Any) -> Batch | None:
    """Repeat the actions ``played``, which must lead to the same end, and return the answer to ``last``.

    None if a DISABLED environment refuses that one.
    """
    batch = watched.reset(seed)
    for t, actions in enumerate(played):
        batch = watched.step(t, actions)
    if not same((end.obs, end.terminated, end.truncated), (batch.obs, batch.terminated, batch.truncated)):
        what = "with the same seed and the same actions they are not the same"
        raise watched.log.fatal("determinism", "episodes' ends", what, SEEDED)
    step = watched.try_step if watched.mode is AutoresetMode.DISABLED else watched.step
    return step(len(played), last)


def _final_obs(info: Info, n: SupportsIndex) -> Any:
    values, given = info.get("final_obs"), info.get("_final_obs")
    if values is None or (given is not None and not given[n]):
        return None
    value = single_obs(values, n)
    return None if value is None else frozen(value)


def followed_mode(ends: Sequence[EpisodeEnd], starts: EpisodeStarts, usual: Similarity) -> AutoresetMode | None:
    """The autoreset mode that explains what happened at the ends; None if that is not certain.

    - NEXT_STEP ignores the actions after an end, though actions matter in first steps.
    - DISABLED resets nothing: the environment ends again, or continues from where it ended.
    - SAME_STEP gives the true final observation in the info and shows another one, or at least shows one from the
      range of those that begin episodes.
    """
    ignored, done = (Share([test(end.after) for end in ends]) for test in (_ignored, _done))
    like_start = Share([starts.range.contains(end.shown) for end in ends])
    is_next_step = ignored.always_unlike(starts.ignored)
    if all(end.final is not None for end in ends):
        shows_another = any(not same(end.final, end.shown) for end in ends)
        return AutoresetMode.SAME_STEP if shows_another or not is_next_step else AutoresetMode.NEXT_STEP
    if is_next_step:
        return AutoresetMode.NEXT_STEP
    if done.always_unlike(starts.done):
        return AutoresetMode.DISABLED
    if ignored.hits < ignored.total:
        if like_start.always_unlike(usual.like_start):
            return AutoresetMode.SAME_STEP
        if like_start.hits == 0:
            return AutoresetMode.DISABLED
    return None


def check_ends(watched: WatchedVector, ends: Sequence[EpisodeEnd], starts: EpisodeStarts, usual: Similarity) -> None:
    """Whether the environment follows the autoreset mode of its metadata, and keeps the final observations."""
    log, claimed = watched.log, watched.mode
    if not all(end.after for end in ends):  # only DISABLED environments may refuse the step after an end
        return
    real = followed_mode(ends, starts, usual)
    if real is None:
        what = f"{len(ends)} ends of episodes do not show which autoreset mode it follows"
        log.add("note", "autoreset", "episodes' ends", what, f"{MODE} is taken as true")
    elif real is not claimed:
        said = "does not say which autoreset mode it follows" if claimed is None else f"says {claimed}"
        what = f"the environment {said}, but what it does is {real} ({len(ends)} ends of episodes)"
        log.add("fault", "autoreset mode", "episodes' ends", what, f"set it to {real}, or follow it", MODE)
        return
    if claimed is AutoresetMode.SAME_STEP:
        _check_same_step(watched, ends, starts, usual)
    elif claimed is AutoresetMode.NEXT_STEP:
        _check_next_step(log, ends, starts, usual)


def _check_same_step(
    watched: WatchedVector, ends: Sequence[EpisodeEnd], starts: EpisodeStarts, usual: Similarity
) -> None:
    log, place = watched.log, "episodes' ends, info['final_obs']"
    if any(end.final is None for end in ends):
        log.add("fault", "final observation", place, "is missing", FINAL_OBS)
        return
    for end in ends:
        check_member(log, "episodes' ends", watched.vector.single_observation_space, end.final, "info['final_obs']")
    cases = [same(end.final, end.shown) for end in ends]
    is_first = _check_not_first(log, place, cases, FINAL_OBS, starts, usual)
    if not is_first and Share([same(end.final, end.before) for end in ends]).always_unlike(usual.unchanged):
        what = "is always like the observation before the last step; right only where last steps change nothing"
        log.add("warning", "final observation", place, what, FINAL_OBS)
    if not all(end.has_final_info for end in ends):
        place, what = "episodes' ends, info['final_info']", "is missing: the info of an episode's last step is lost"
        log.add("warning", "final info", place, what, "put the info of the last transition there")


def _check_next_step(log: Log, ends: Sequence[EpisodeEnd], starts: EpisodeStarts, usual: Similarity) -> None:
    place = "the step after an episode's end"
    rewards = [answer.reward for end in ends for answer in end.after if answer.reward != 0]
    if rewards:
        what = f"pays {rewards[0]}, although it is only a reset"
        log.add("fault", "reward", place, what, "pay 0 in the step that resets", "reward")
    cases = [same(end.shown, end.after[0].obs) for end in ends]
    remedy = "show the observation after the last transition; the next step shows the new episode's first one"
    _check_not_first(log, "steps that end an episode, observation", cases, remedy, starts, usual)


def _check_not_first(
    log: Log, place: str, cases: Sequence[bool], remedy: str, starts: EpisodeStarts, usual: Similarity
) -> bool:
    """Whether observations at ends equal the next episodes' first ones (``cases``) more often than by chance."""
    share = Share(cases)
    if share.always_unlike(starts.alike):
        what = "is the first one of the next episode: the true final observation is lost"
        log.add("fault", "final observation", place, what, remedy)
    elif share.always_unlike(usual.like_first):
        what = "is always like the first one of the next episode; right only where episodes end where they begin"
        log.add("warning", "final observation", place, what, remedy)
    else:
        return False
    return True
