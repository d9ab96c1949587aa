"""What the training of a member costs: the seconds of an iteration of one that trains alone, measured after the study.

Members that train side by side share a clock, which says little of any of them. So one member of each group, whose
members run the same program, trains alone for some iterations, with the program of ``rlgd.train`` and its clock:
compilation and evaluations do not count. Where an agent takes whole episodes, an iteration lasts as long as the
longest of them: such a member trains to its end, and its mean counts. The groups are timed in every round, one after
another, so a disturbance of the machine meets all alike; where there are more than ``MOST_KEPT``, so many at a time.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlgd.envs import DeviceEnv
from rlgd.errors import StorageFault
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval
from rlgd.run import start
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig
from rlgd.studies.directory import SPEED
from rlgd.studies.outcome import DIVERGED, ROWS, Outcome
from rlgd.studies.plan import Group, Plan
from rlgd.studies.programs import MOST_KEPT
from rlgd.system import files, machine
from rlgd.system.machine import num_cores
from rlgd.system.reading import Count, damage_named, parse_json, read_text
from rlgd.training.chunks import chunks
from rlgd.training.runners import DeviceRunner

ROUNDS = 6


class Speed(NamedTuple):
    """How fast one member of a group trains alone.

    Attributes:
        program: the label of the group.
        iterations: that were timed in each round, from the beginning of a run.
        seconds: of an iteration, in each round.
    """

    program: str
    iterations: int
    seconds: tuple[float, ...]

    @property
    def of_an_iteration(self) -> Interval:
        """Seconds: the interquartile mean of the rounds, with its interval."""
        return confidence.interval(self.seconds)

    def relative_to(self, other: "Speed") -> Interval:
        """The seconds of an iteration in those of another group; both were timed in the same rounds."""
        return confidence.interval(np.divide(self.seconds, other.seconds))


class _Alone:
    """A member that trains alone, as often as it is asked, always from its beginning; compiled when it is made."""

    def __init__(self, config: RunConfig, iterations: int) -> None:
        assert isinstance(config.env, DeviceEnv)
        self.pace = cadence(config)
        self.runner = DeviceRunner(config.agent.prepared(), config.env, self.pace.chunk_length)
        self.beginning = start.beginning(config).loop
        self.iterations = min(self.pace.chunk_length, iterations)
        if config.agent.whole_episodes:
            self.iterations = iterations  # they take longer as episodes grow
        self.seconds()

    def seconds(self) -> float:
        """The seconds of an iteration."""
        done, seconds = 0, 0.0
        for chunk in chunks(self.runner, self.beginning, self.pace.chunk_length, self.pace.total_timesteps):
            done, seconds = done + len(chunk.metrics["rollout/steps"]), seconds + chunk.training_seconds
            if done >= self.iterations:
                break
        return seconds / done


def measure(plan: Plan, outcomes: Mapping[int, Outcome]) -> tuple[Speed, ...]:
    """The speed of each group that trains on the device, in order."""
    groups = plan.device_groups
    return tuple(
        speed
        for first in range(0, len(groups), MOST_KEPT)
        for speed in _measured_together(plan, groups[first : first + MOST_KEPT], outcomes)
    )


def _measured_together(plan: Plan, groups: Sequence[Group], outcomes: Mapping[int, Outcome]) -> list[Speed]:
    typical = [_typical(group.members, outcomes) for group in groups]
    with ThreadPoolExecutor(num_cores()) as pool:
        members = list(pool.map(lambda n: _Alone(plan.members[n], outcomes[n].iterations), typical))
    rounds = [[member.seconds() for member in members] for _ in range(ROUNDS)]
    for member in members:
        member.runner.forget()
    timed = zip(groups, members, zip(*rounds, strict=True), strict=True)
    return [Speed(group.label, member.iterations, seconds) for group, member, seconds in timed]


def _typical(members: Sequence[int], outcomes: Mapping[int, Outcome]) -> int:
    """The member that is timed: of those that did not diverge, if there are any, the median by iterations."""
    counted = [n for n in members if n in outcomes and outcomes[n].iterations] or list(members[:1])
    sound = [n for n in counted if outcomes[n].reason != DIVERGED] or counted
    return sorted(sound, key=lambda n: outcomes[n].iterations)[len(sound) // 2]


def timed(plan: Plan, outcomes: Mapping[int, Outcome], speeds: Sequence[Speed]) -> dict[int, Outcome]:
    """The outcomes in order, with the seconds that each member takes alone: those of its iterations.

    On the host members train alone, and keep their own.
    """
    found = dict(sorted(outcomes.items()))
    for group, speed in zip(plan.device_groups, speeds, strict=True):
        seconds = speed.of_an_iteration.value
        for number in found.keys() & set(group.members):
            if found[number].iterations:  # it is not known of members that earlier versions trained
                found[number] = _timed(found[number], cadence(plan.members[number], ROWS).row_length, seconds)
    return found


def _timed(outcome: Outcome, row_length: int, seconds: float) -> Outcome:
    rows, iterations = [], 0
    for row in outcome.rows:
        if "rollout/episodes" in row.values:  # else it is of an evaluation
            iterations = min(iterations + row_length, outcome.iterations)
        rows.append(dataclasses.replace(row, seconds=seconds * iterations))
    return dataclasses.replace(outcome, rows=tuple(rows), training_seconds=seconds * outcome.iterations)


# speed.json


@dataclasses.dataclass
class _Group:
    program: str
    iterations: Count
    seconds: list[float]


@dataclasses.dataclass
class _Record:
    """The content of the file."""

    device: str
    groups: list[_Group]


def read(directory: Path, plan: Plan) -> tuple[Speed, ...]:
    """The speeds that an earlier process measured of all groups on the device; empty if there are none of these.

    Raises:
        StorageFault: if the file is damaged.
    """
    path = directory / SPEED
    try:
        with damage_named(path):
            groups = parse_json(read_text(path), _Record).groups
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StorageFault(f"{path} cannot be read: {error.strerror}.") from error
    speeds = tuple(Speed(group.program, group.iterations, tuple(group.seconds)) for group in groups)
    if not all(len(speed.seconds) > 0 and min(speed.seconds) > 0 for speed in speeds):
        raise StorageFault(f"{path} is damaged: it has no seconds, or some that are not positive.")
    known = [(speed.program, len(speed.seconds)) for speed in speeds]
    return speeds if known == [(group.label, ROUNDS) for group in plan.device_groups] else ()


def write(directory: Path, speeds: Sequence[Speed]) -> None:
    """Write ``speed.json``.

    Raises:
        StorageFault: if it cannot be written.
    """
    groups = [_Group(speed.program, speed.iterations, list(speed.seconds)) for speed in speeds]
    try:
        files.write_json(directory / SPEED, dataclasses.asdict(_Record(machine.device_name(), groups)))
    except OSError as error:
        raise StorageFault(f"{directory / SPEED} cannot be written: {files.why(error, directory)}.") from error
