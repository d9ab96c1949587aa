"""Checks of a vector environment: its answers, what seeds determine, and whether its environments are independent."""

from collections.abc import Callable

import numpy as np
from gymnasium.vector import AutoresetMode

from rlgd.envs.aliases import GymVector
from rlgd.envs.check.autoreset import ENOUGH_ENDS, check_ends, episode_starts, find_ends
from rlgd.envs.check.play import Answer
from rlgd.envs.check.report import Log
from rlgd.envs.check.similarity import ObsRange, Similarity
from rlgd.envs.check.single import compare_answers
from rlgd.envs.check.watched_vector import MODE, WatchedVector, single_obs

COMPARED_STEPS = 100  # for which two plays are compared


def check_vector(
    log: Log, make: Callable[[], GymVector] | None, vector: GymVector, seed: int, steps: int, may_vary: bool = False
) -> None:
    """All checks of a vector environment.

    Args:
        log: gets the findings.
        make: makes another copy; None: there is only ``vector``, which stays open.
        vector: the first copy.
        seed: of resets and actions.
        steps: number of steps that are checked.
        may_vary: whether a seed need not give the same answers again.
    """
    watched = WatchedVector(log, vector)
    starts = episode_starts(watched, seed)
    usual = _walk(watched, seed, steps, starts.range)
    if _check_seeding(watched, make, seed, steps, may_vary):
        ends = list(find_ends(watched, seed, steps))
        if ends:
            check_ends(watched, ends, starts, usual)
        else:
            what = f"no episode ended within {steps} steps of random actions"
            log.add("note", "autoreset", "steps", what, f"whether {MODE} is true was not checked")
    if make is not None:
        log.call("close", "close", "close must not raise", vector.close)


def _walk(watched: WatchedVector, seed: int, steps: int, starts: ObsRange) -> Similarity:
    """Check steps of random actions until enough episodes have ended; returns how alike observations usually are."""
    rng, vector = np.random.default_rng(seed), watched.vector
    limit = None if vector.spec is None else vector.spec.max_episode_steps
    usual, during_resets = Similarity(), Similarity()
    first = watched.reset(seed)
    ends, over, lengths = 0, first.done, np.zeros(vector.num_envs, int)
    for t in range(steps):
        before = watched.batch
        batch = watched.random_step(t, rng)
        resets = over if watched.mode is AutoresetMode.NEXT_STEP else batch.done
        for n in np.flatnonzero(~over & ~batch.done):
            similarity = during_resets if resets.any() else usual
            similarity.add(single_obs(batch.obs, n), single_obs(before.obs, n), single_obs(first.obs, n), starts)
        lengths = np.where(resets, 0, lengths + 1)
        if limit is not None and np.any(lengths > limit):
            what = f"the episode of environment {np.argmax(lengths)} continues, although max_episode_steps is {limit}"
            watched.log.add("fault", "time limit", watched.place, what, "count each episode's steps from 0")
        over, ends = batch.done, ends + int(batch.done.sum())
        if ends >= ENOUGH_ENDS:
            break
    _check_transitions(watched.log, usual, during_resets)
    return usual


def _check_transitions(log: Log, usual: Similarity, during_resets: Similarity) -> None:
    """Whether a reset of one environment changes what happens to the others."""
    if during_resets.unchanged.always_unlike(usual.unchanged):
        what = "stood still whenever one of them was reset: their transitions are lost"
    elif during_resets.like_start.always_unlike(usual.like_start):
        what = "were reset whenever one of them was reset"
    else:
        return
    remedy = "let a reset change nothing but the environments that ended"
    count = during_resets.unchanged.total
    log.add("fault", "transitions", "steps with a reset", f"the others {what} ({count} times)", remedy)


def _check_seeding(
    watched: WatchedVector, make: Callable[[], GymVector] | None, seed: int, steps: int, may_vary: bool
) -> bool:
    """Compare two plays under one seed, and the play of another copy; returns whether the first two are the same."""

    def play(watched: WatchedVector) -> list[Answer]:
        rng = np.random.default_rng(seed)
        batches = [watched.reset(seed)]
        for t in range(min(steps, COMPARED_STEPS)):
            batches.append(watched.random_step(t, rng))
        return [Answer(batch.obs, batch.reward, batch.terminated, batch.truncated) for batch in batches]

    log, first = watched.log, play(watched)
    again = compare_answers(log, first, play(watched), "reset with the same seed", may_vary)
    if make is not None:
        copied = WatchedVector(log, log.call("copies", "another copy", "let copies exist at once", make))
        compare_answers(log, first, play(copied), "in a copy, reset with the same seed", may_vary)
        log.call("close", "close", "close must not raise", copied.vector.close)
    return again
