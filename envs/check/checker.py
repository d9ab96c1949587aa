"""Whether an environment is sound: checked by its behaviour, alone, in vectors and in a worker process."""

import contextlib
import functools
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id, parse_env_id
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rlgd.envs.aliases import GymEnv, GymVector
from rlgd.envs.check.play import Answer
from rlgd.envs.check.report import Log, Report, quote
from rlgd.envs.check.single import check_answers, check_determinism, compare_answers, varies
from rlgd.envs.check.vector import check_vector
from rlgd.envs.check.worker import WorkerResult, check_in_worker
from rlgd.envs.device.device_env import DeviceEnv
from rlgd.envs.device.gym_vector import DeviceVectorEnv
from rlgd.envs.host.maker import load_entry_point
from rlgd.errors import UsageError, unknown, whole_number

NUM_ENVS = 4
STEPS = 1_000
SECONDS = 10.0  # for the steps of a single environment, if ``steps`` is not given


def check(
    source: Any,
    *,
    seed: int = 0,
    steps: int | None = None,
    timeout: float = 60.0,
    worker: bool = True,
    **kwargs: Any,
) -> Report:
    """Check an environment.

    A spawned process checks it first: if the environment hangs or dies there, nothing else is tried. Everything that is
    written to standard output meanwhile is captured.

    Args:
        source: a Gymnasium id; a class or function that makes a ``gymnasium.Env`` or ``VectorEnv``; one of these, which
            stays open; or a ``FuncEnv`` or ``DeviceEnv``, which is checked as a vector on the device.
        seed: of resets and actions.
        steps: number of steps of random actions that are checked; all checks together take a small multiple of it. By
            default 1,000, or fewer if the environment is slow in the worker process.
        timeout: seconds to make the environment in the worker process, and again to play there.
        worker: whether to use a worker process.
        kwargs: arguments for the environment.

    Raises:
        UsageError: if there is no such environment, or an argument does not fit.
    """
    seed, steps = whole_number("seed", seed), None if steps is None else whole_number("steps", steps, 1)
    subject = _subject(source, kwargs)
    log = Log()
    with _captured_output() as printed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check_subject(log, subject, seed, steps, timeout if worker else None)
    if printed:
        what, remedy = f"has {quote(printed[0])}", "print to sys.stderr, or use logging: standard output is for --json"
        log.add("warning", "output", "standard output", what, remedy)
    return Report(subject.name, tuple(log.checked), tuple(log.unfinished), log.findings)


class _Subject(NamedTuple):
    """What is checked.

    Attributes:
        name: for the report.
        make: makes it.
        has_copies: whether ``make`` makes a new one each time.
        in_worker: whether a worker process may try it first.
        make_native: makes its native vector environment; None if there is none.
    """

    name: str
    make: Callable[[], Any]
    has_copies: bool = True
    in_worker: bool = True
    make_native: Callable[[], GymVector] | None = None


def _subject(source: Any, kwargs: dict[str, Any]) -> _Subject:
    if isinstance(source, gymnasium.Env | VectorEnv | FuncEnv | DeviceEnv):
        if kwargs:
            raise UsageError(f"{source} is already made; pass the arguments {', '.join(kwargs)} with its id or class.")
        if isinstance(source, FuncEnv):
            source = DeviceEnv(source, type(source).__name__, None)
        if isinstance(source, DeviceEnv):
            return _Subject(source.env_id, functools.partial(DeviceVectorEnv, source, NUM_ENVS), in_worker=False)
        return _Subject(str(source), lambda: source, has_copies=False, in_worker=False)
    if callable(source):
        made_by = source.func if isinstance(source, functools.partial) else source
        return _Subject(getattr(made_by, "__name__", str(made_by)), functools.partial(source, **kwargs))
    if not isinstance(source, str):
        raise UsageError(
            f"{source!r} cannot be checked; allowed: a Gymnasium id, a class or function that makes a gymnasium.Env or "
            "a VectorEnv, one of these, a FuncEnv, and what rlgd.envs.make gives for the device."
        )
    spec = _find(source)
    make = functools.partial(_registered, spec, **kwargs)
    if spec.vector_entry_point is None:
        return _Subject(spec.id, make)
    make_native = functools.partial(gymnasium.make_vec, spec, NUM_ENVS, "vector_entry_point", **kwargs)
    if spec.entry_point is None:
        return _Subject(spec.id, make_native)
    return _Subject(spec.id, make, make_native=make_native)


def _registered(spec: EnvSpec, **kwargs: Any) -> GymEnv:
    load_entry_point(spec)
    return gymnasium.make(spec, disable_env_checker=True, **kwargs)


def _find(env_id: str) -> EnvSpec:
    """Gymnasium's description of an id, by default of its highest version; imports the module before a colon."""
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        namespace, plain, version = parse_env_id(name)
        if version is None and name not in gymnasium.registry:
            version = find_highest_version(namespace, plain)
        return gymnasium.spec(get_env_id(namespace, plain, version))
    except ImportError as error:
        raise UsageError(f"{env_id} cannot be made: {error}.") from error
    except gymnasium.error.NamespaceNotFound as error:
        raise UsageError(f"unknown environment {env_id!r}: {error}") from error
    except gymnasium.error.Error as error:
        raise unknown("environment", env_id, gymnasium.registry) from error


@contextlib.contextmanager
def _captured_output() -> Iterator[list[str]]:
    """A list that gets, at the end, all lines that this process has written to standard output."""
    printed: list[str] = []
    sys.stdout.flush()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        real = os.dup(1)
        os.dup2(file.fileno(), 1)  # libraries in C write to the descriptor
        try:
            with contextlib.redirect_stdout(file):
                yield printed
        finally:
            file.flush()
            os.dup2(real, 1)
            os.close(real)
            file.seek(0)
            printed += filter(None, map(str.strip, file))


def _check_subject(log: Log, subject: _Subject, seed: int, wanted: int | None, timeout: float | None) -> None:
    from_worker, steps = None, wanted or STEPS
    if timeout is not None and subject.in_worker:
        with log.group("worker process"):
            from_worker = check_in_worker(log, subject.make, seed, timeout)
        if log.faulty:
            log.unfinished.append("everything else")
            return
    if wanted is None and from_worker is not None and from_worker.seconds * steps > SECONDS:
        steps = max(1, int(SECONDS / from_worker.seconds))
        what = f"a step takes {1e3 * from_worker.seconds:.0f} ms"
        log.add("note", "speed", "steps", what, f"only {steps} steps of random actions were checked")
    made: Any = None
    with log.group("making"):
        made = log.call("make", subject.name, "make it possible with these arguments", subject.make)
        if not isinstance(made, gymnasium.Env | VectorEnv):
            remedy = "derive the class from gymnasium.Env or gymnasium.vector.VectorEnv"
            raise log.fatal("make", subject.name, f"made {quote(made)}, a {type(made).__name__}", remedy)
    make = subject.make if subject.has_copies else None
    if isinstance(made, VectorEnv):
        with log.group("vector environment"):
            check_vector(log, make, made, seed, steps)
    elif isinstance(made, gymnasium.Env):
        _check_single(log, make, made, seed, steps, from_worker)
        _check_vectors(log, subject, made, seed, steps)


def _check_single(
    log: Log,
    make: Callable[[], GymEnv] | None,
    env: GymEnv,
    seed: int,
    steps: int,
    from_worker: WorkerResult | None,
) -> None:
    with log.group("answers", prefix=False):
        check_answers(log, env, seed, steps)
    if log.faulty:
        log.unfinished.append("determinism")
        return
    answers: list[Answer] = []
    with log.group("determinism", prefix=False):
        answers = check_determinism(log, make, env, seed, steps)
    if from_worker is None or log.faulty:
        return
    with log.group("the same in the worker process"):
        if from_worker.raised:
            remedy = "let it need nothing that exists only in this process"
            raise log.fatal("worker process", "reset and steps", f"raised {from_worker.raised}", remedy)
        where = "in another process, reset with the same seed"
        compare_answers(log, answers, from_worker.answers, where, varies(env))


def _check_vectors(log: Log, subject: _Subject, env: GymEnv, seed: int, steps: int) -> None:
    def check_one(name: str, make: Callable[[], GymVector], repeats: bool) -> None:
        with log.group(name, repeats=repeats):
            vector = log.call("make", "making", "make it possible with these arguments", make)
            _compare_attributes(log, vector, env)
            check_vector(log, make, vector, seed, steps, varies(env))

    if log.faulty:
        log.unfinished.append("SyncVectorEnv")
    elif subject.has_copies:
        makers = [subject.make] * NUM_ENVS
        same_step = AutoresetMode.SAME_STEP
        check_one("SyncVectorEnv", functools.partial(SyncVectorEnv, makers, autoreset_mode=same_step), repeats=True)
    if subject.make_native is not None:
        check_one("native vector environment", subject.make_native, repeats=False)


def _compare_attributes(log: Log, vector: GymVector, env: GymEnv) -> None:
    """Whether the vector has ``NUM_ENVS`` environments, with the spaces of the single one."""
    if (count := getattr(vector, "num_envs", None)) != NUM_ENVS:
        what = f"it was made with num_envs={NUM_ENVS}, but its num_envs is {count}"
        raise log.fatal("num_envs", "making", what, "make as many environments as num_envs says")
    for name in ("observation_space", "action_space"):
        own, alone = getattr(vector, f"single_{name}", None), getattr(env, name, None)
        if not isinstance(own, gymnasium.Space) or not isinstance(alone, gymnasium.Space):
            continue  # other checks report this
        if not is_space_dtype_shape_equiv(own, alone):
            what = f"single_{name} is {quote(own)}, but the {name} of a single environment is {quote(alone)}"
            raise log.fatal("spaces", "making", what, "give both the same spaces")
