"""Train the members of a study: slices in threads or on an engine, members on the host one after another."""

import concurrent.futures
import dataclasses
import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

import jax

from rlgd.engines.jobs import check_executor
from rlgd.errors import UsageError, whole_number
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig
from rlgd.studies import elsewhere, speed
from rlgd.studies.alone import train_alone
from rlgd.studies.compiling import Compiling
from rlgd.studies.elsewhere import SetUp
from rlgd.studies.outcome import OnFinished, Outcome
from rlgd.studies.plan import Group, Plan
from rlgd.studies.programs import Shelf
from rlgd.studies.slices import Slice
from rlgd.studies.speed import Speed
from rlgd.studies.width import bytes_of, width_of
from rlgd.system import ram
from rlgd.system.log import log
from rlgd.system.machine import num_cores
from rlgd.system.mesh import make_mesh

MEMORY_SHARE = 0.5  # share of the available memory for all slices that run at once
TAKING_TURNS = 6  # groups, fewer than a shelf has places for
COMPILE_SECONDS = 15.0  # to compile the programs of a group, roughly


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the members of a plan are trained.

    Attributes:
        exact: the members of a slice train one after another, with the bits of a run alone. Otherwise they train side
            by side, and equal a run alone to rounding at first.
        slice_size: members trained side by side; None: ``width.width_of`` says it for each group.
        workers: slices trained at once; None: one for each core of a CPU or each GPU, as many as an executor likes.
        executor: trains the slices in other processes; None: threads of this one do.
        set_up: prepares JAX in another process, given a member, and whether it is the only one that trains there; it
            must be importable there.
        devices: of this machine, which take turns in training slices: none waits for another, and a member has the same
            bits on each.
    """

    exact: bool = False
    slice_size: int | None = None
    workers: int | None = None
    executor: Executor | None = None
    set_up: SetUp | None = None
    devices: int = 1

    def validate(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: naming what was given and what is allowed.
        """
        for name in ("slice_size", "workers"):
            if (value := getattr(self, name)) is not None:
                whole_number(name, value, 1)
        whole_number("devices", self.devices, 1)
        check_executor(self.executor)

    def check_devices(self, plan: Plan) -> None:
        """Check that the devices are there, and have something to do.

        Raises:
            UsageError: if they are not, or have not.
        """
        if self.devices > 1 and not plan.device_groups:
            raise UsageError(f"devices is {self.devices}, but {', '.join(plan.env_ids)} runs on the host.")
        if self.devices > 1 and self.executor is not None:
            raise UsageError(f"devices is {self.devices}, but an executor trains; give it a worker for each device.")
        make_mesh(self.devices)

    @property
    def num_workers(self) -> int:
        """The number of slices trained at once."""
        if self.workers is not None:
            return self.workers
        return max(num_cores() if jax.default_backend() == "cpu" else 1, self.devices)

    def size_of(self, plan: Plan, group: Group, member_bytes: int | None = None) -> int:
        """The number of members in a slice of a group; ``member_bytes`` is the ``bytes_of`` of one, if it is known."""
        return self.slice_size or width_of(plan.members[group.members[0]], member_bytes)


def forecast(plan: Plan, execution: Execution) -> str:
    """What will be trained, as text: members, programs and slices, with rough estimates of memory and time."""
    question, workers = plan.question, execution.num_workers
    points = sum(map(len, plan.points))
    lines = [
        f"{question.name}: {question.question}" if question.question else question.name,
        f"  {points:,} combinations in {len(plan.points)} {'arm' if len(plan.points) == 1 else 'arms'}, "
        f"{question.seeds:,} seeds each: {len(plan.members):,} members "
        f"of {', '.join(plan.agent_names)} in {', '.join(plan.env_ids)}",
    ]
    seconds, most, on_host = 0.0, 0.0, 0.0
    for group in plan.groups:
        training = sum(_seconds(plan.members[n]) for n in group.members)
        line = f"  program {group.label}: {len(group.members):,} members"
        if group.on_device:
            # This traces the program, which takes most of the time here.
            member_bytes = bytes_of(plan.members[group.members[0]])
            size = execution.size_of(plan, group, member_bytes)
            seconds += training + COMPILE_SECONDS
            most = max(most, size * member_bytes)
            line += f", {'one after another' if execution.exact else f'{size} side by side'}"
        else:
            on_host += training
            line += ", one after another on the host"
        lines.append(line)
    time = _duration(seconds / workers + on_host)
    if plan.device_groups:
        programs = f"{len(plan.device_groups)} program{'' if len(plan.device_groups) == 1 else 's'}"
        memory = f"{most * workers / 2**20:,.0f} MiB"
        lines.append(f"  {programs} to compile, {workers} slices at a time, about {memory}, about {time}")
    else:
        lines.append(f"  about {time}")
    return "\n".join(lines)


def _seconds(config: RunConfig) -> float:
    """A rough estimate of a member's training time: ``chunk_length`` iterations take about a second on one core."""
    pace = cadence(config)
    return pace.total_timesteps / pace.iteration_steps / pace.chunk_length


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def train_members(
    plan: Plan,
    wanted: Sequence[int],
    execution: Execution,
    on_finished: OnFinished,
    shelf: Shelf,
    compiling: Compiling,
) -> None:
    """Train members slice by slice.

    Args:
        plan: of the study.
        wanted: the numbers of the members to train.
        execution: how they are trained.
        on_finished: called after each slice with its outcomes by number.
        shelf: what earlier calls have compiled; what this one compiles is added.
        compiling: is told when something is compiled.
    """
    slices = _slices(plan, set(wanted), execution)
    if execution.executor is not None:
        elsewhere.train_slices(
            plan, slices, execution.exact, execution.executor, execution.workers, execution.set_up, on_finished,
            compiling,
        )  # fmt: skip
        return
    on_device = [part for part in slices if plan.groups[part.group].on_device]
    if on_device:
        _train_in_threads(plan, on_device, execution, on_finished, shelf, compiling)
    for part in slices:
        if not plan.groups[part.group].on_device:
            on_finished({number: train_alone(plan.members[number]) for number in part.members})


def _slices(plan: Plan, wanted: set[int], execution: Execution) -> list[Slice]:
    """The wanted members in slices. On the host each member is one."""
    groups = []
    for label, group in enumerate(plan.groups):
        numbers = [n for n in group.members if n in wanted]
        size = execution.size_of(plan, group) if group.on_device and numbers else 1
        starts = range(0, len(numbers), size)
        groups.append([Slice(label, size, tuple(numbers[start : start + size])) for start in starts])
    # Some groups take turns: while one group is compiled, another one is compiled too, or trains.
    starts = range(0, len(groups), TAKING_TURNS)
    turns = [turn for start in starts for turn in itertools.zip_longest(*groups[start : start + TAKING_TURNS])]
    return [part for turn in turns for part in turn if part is not None]


def _train_in_threads(
    plan: Plan,
    slices: Sequence[Slice],
    execution: Execution,
    on_finished: OnFinished,
    shelf: Shelf,
    compiling: Compiling,
) -> None:
    """Threads suffice: a compiled program runs without the interpreter's lock, and all threads share the programs."""
    devices = itertools.cycle(jax.local_devices()[: execution.devices])
    mine = threading.local()  # each thread has a device
    first = {part.group: part for part in reversed(slices)}
    available = MEMORY_SHARE * ram.free_bytes() / execution.num_workers

    def start() -> None:
        mine.device = next(devices)

    def train(part: Slice) -> dict[int, Outcome]:
        with jax.default_device(mine.device):
            make = functools.partial(first[part.group].programs, plan, execution.exact, compiling)
            return part.train(plan, shelf.get((part.group, mine.device), make), available)

    pool = concurrent.futures.ThreadPoolExecutor(execution.num_workers, initializer=start)
    try:
        for future in concurrent.futures.as_completed([pool.submit(train, part) for part in slices]):
            on_finished(future.result())
    except BaseException as error:
        # Who interrupts a study does not wait for slices that may train for hours.
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    pool.shutdown()


def measure_speeds(plan: Plan, outcomes: Mapping[int, Outcome], execution: Execution) -> tuple[Speed, ...]:
    """What a member of each group costs alone, once all have finished; empty if all train on the host, alone.

    On the CPU a process of its own measures where ``set_up`` is known: a program that trains alone takes fewer threads
    than slices do, and their number holds for a process. On a GPU two processes would share its memory.
    """
    if not plan.device_groups:
        return ()
    number = len(plan.device_groups)
    log.info("timing a member that trains alone, with %d program%s ...", number, "" if number == 1 else "s")
    if execution.executor is not None or (execution.set_up is not None and jax.default_backend() == "cpu"):
        return elsewhere.measure_elsewhere(plan, outcomes, execution.executor, execution.set_up)
    return speed.measure(plan, outcomes)
