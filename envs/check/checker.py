"""Whether an environment is sound: it is probed by what it does, alone, in vectors and in a worker process."""

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

from rlgd.envs.check.autoreset import probe_vector
from rlgd.envs.check.play import Env, Row
from rlgd.envs.check.report import Finding, Log, Report, quote, render
from rlgd.envs.check.single import compare_rows, probe_answers, probe_determinism, varies
from rlgd.envs.check.vector import Vector
from rlgd.envs.check.worker import Played, probe_worker
from rlgd.envs.device.device_env import DeviceEnv
from rlgd.envs.device.gym_vector import DeviceVectorEnv
from rlgd.errors import UsageError, unknown

__all__ = ["Finding", "Report", "check", "render"]

NUM_ENVS = 4
STEPS = 1_000
SECONDS = 10.0  # for the steps of a single environment, if nobody says how many


def check(
    source: Any,
    *,
    seed: int = 0,
    steps: int | None = None,
    timeout: float = 60.0,
    worker: bool = True,
    **kwargs: Any,
) -> Report:
    """Probe an environment.

    A spawned process goes first: with an environment that hangs or dies there nothing else is tried. Standard output
    is caught meanwhile, whatever writes to it.

    Args:
        source: a Gymnasium id; a class or function that makes a ``gymnasium.Env`` or ``VectorEnv``; one of these, which
            stays open; or a ``FuncEnv`` or ``DeviceEnv``, which is probed as a vector on the device.
        seed: of resets and actions.
        steps: how many steps of random actions are looked at; the other probes take a small multiple of it. By default
            1,000, or fewer of an environment that is slow in the worker process.
        timeout: seconds to make the environment in the worker process, and to play there.
        worker: whether a worker process is tried at all.
        kwargs: what the environment is made with.

    Raises:
        UsageError: if there is no such environment, or an argument does not fit.
    """
    if seed < 0 or (steps is not None and steps < 1):
        raise UsageError(f"seed is {seed} and steps is {steps}; allowed: whole numbers from 0 and from 1.")
    subject = _subject(source, kwargs)
    log = Log()
    with _caught_output() as printed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _probe(log, subject, seed, steps, timeout if worker else None)
    if printed:
        what, remedy = f"has {quote(printed[0])}", "print to sys.stderr, or use logging: --json writes there"
        log.add("warning", "output", "standard output", what, remedy)
    return Report(subject.name, tuple(log.checked), tuple(log.unfinished), log.findings)


class _Subject(NamedTuple):
    """What is probed.

    Attributes:
        name: what it is called.
        make: how it is made.
        one: whether that gives the same one each time.
        in_worker: whether a worker process may try it first.
        make_native: how it is made as a vector of its own.
    """

    name: str
    make: Callable[[], Any]
    one: bool = False
    in_worker: bool = True
    make_native: Callable[[], Vector] | None = None


def _subject(source: Any, kwargs: dict[str, Any]) -> _Subject:
    if isinstance(source, gymnasium.Env | VectorEnv | FuncEnv | DeviceEnv):
        if kwargs:
            raise UsageError(f"{source} is already made; the arguments {', '.join(kwargs)} go with its id or class.")
        if isinstance(source, FuncEnv):
            source = DeviceEnv(source, type(source).__name__, None)
        if isinstance(source, DeviceEnv):
            return _Subject(source.env_id, functools.partial(DeviceVectorEnv, source, NUM_ENVS), in_worker=False)
        return _Subject(str(source), lambda: source, one=True, in_worker=False)
    if callable(source):
        made_by = source.func if isinstance(source, functools.partial) else source
        return _Subject(getattr(made_by, "__name__", str(made_by)), functools.partial(source, **kwargs))
    if not isinstance(source, str):
        raise UsageError(
            f"{source!r} cannot be checked; allowed: a Gymnasium id, a class or function that makes a gymnasium.Env or "
            "a VectorEnv, one of these, a FuncEnv, and what rlgd.envs.make gives for the device."
        )
    spec = _find(source)
    make = functools.partial(gymnasium.make, spec, disable_env_checker=True, **kwargs)
    if spec.vector_entry_point is None:
        return _Subject(spec.id, make)
    make_native = functools.partial(gymnasium.make_vec, spec, NUM_ENVS, "vector_entry_point", **kwargs)
    if spec.entry_point is None:
        return _Subject(spec.id, make_native)
    return _Subject(spec.id, make, make_native=make_native)


def _find(env_id: str) -> EnvSpec:
    """What is registered, of the highest version where none is named; a module in front of a colon is imported."""
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
def _caught_output() -> Iterator[list[str]]:
    """The lines that anything in this process writes to standard output, at the end."""
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


def _probe(log: Log, subject: _Subject, seed: int, wanted: int | None, timeout: float | None) -> None:
    played, steps = None, wanted or STEPS
    if timeout is not None and subject.in_worker:
        with log.probing("worker process"):
            played = probe_worker(log, subject.make, seed, timeout)
        if log.faulty:
            log.unfinished.append("everything else")
            return
    if wanted is None and played is not None and played.seconds * steps > SECONDS:
        steps = max(1, int(SECONDS / played.seconds))
        what = f"a step takes {1e3 * played.seconds:.0f} ms"
        log.add("note", "speed", "steps", what, f"no more than {steps} steps of random actions were looked at")
    made: Any = None
    with log.probing("making"):
        made = log.call("make", subject.name, "make it possible with these arguments", subject.make)
        if not isinstance(made, gymnasium.Env | VectorEnv):
            remedy = "derive the class from gymnasium.Env or gymnasium.vector.VectorEnv"
            raise log.stop("make", subject.name, f"made {quote(made)}, a {type(made).__name__}", remedy)
    if isinstance(made, VectorEnv):
        with log.probing("vector environment"):
            probe_vector(log, None if subject.one else subject.make, made, seed, steps)
    elif isinstance(made, gymnasium.Env):
        _probe_single(log, None if subject.one else subject.make, made, seed, steps, played)
        _probe_vectors(log, subject, made, seed, steps)


def _probe_single(
    log: Log, make: Callable[[], Env] | None, env: Env, seed: int, steps: int, played: Played | None
) -> None:
    with log.probing("answers", prefix=False):
        probe_answers(log, env, seed, steps)
    if log.faulty:
        log.unfinished.append("determinism")
        return
    rows: list[Row] = []
    with log.probing("determinism", prefix=False):
        rows = probe_determinism(log, make, env, seed, steps)
    if played is None or log.faulty:
        return
    with log.probing("the same in the worker process"):
        if played.raised:
            remedy = "let it need nothing that only this process has"
            raise log.stop("worker process", "reset and steps", f"raised {played.raised}", remedy)
        compare_rows(log, rows, played.rows, "in another process, reset with the same seed", varies(env))


def _probe_vectors(log: Log, subject: _Subject, env: Env, seed: int, steps: int) -> None:
    def probe(name: str, make: Callable[[], Vector], repeats: bool) -> None:
        with log.probing(name, repeats=repeats):
            vector = log.call("make", "making", "make it possible with these arguments", make)
            _compare_attributes(log, vector, env)
            probe_vector(log, make, vector, seed, steps, varies(env))

    if log.faulty:
        log.unfinished.append("SyncVectorEnv")
    elif not subject.one:
        makers = [subject.make] * NUM_ENVS
        same_step = AutoresetMode.SAME_STEP
        probe("SyncVectorEnv", functools.partial(SyncVectorEnv, makers, autoreset_mode=same_step), repeats=True)
    if subject.make_native is not None:
        probe("native vector environment", subject.make_native, repeats=False)


def _compare_attributes(log: Log, vector: Vector, env: Env) -> None:
    """Whether there are as many environments as asked for, and whether they are like the single one."""
    if (count := getattr(vector, "num_envs", None)) != NUM_ENVS:
        what = f"{NUM_ENVS} environments were asked for, and num_envs is {count}"
        raise log.stop("num_envs", "making", what, "make as many as asked for")
    for name in ("observation_space", "action_space"):
        own, alone = getattr(vector, f"single_{name}", None), getattr(env, name, None)
        if not isinstance(own, gymnasium.Space) or not isinstance(alone, gymnasium.Space):
            continue  # which is noted by others
        if not is_space_dtype_shape_equiv(own, alone):
            what = f"single_{name} is {quote(own)}, but the {name} of a single environment is {quote(alone)}"
            raise log.stop("spaces", "making", what, "give both the same spaces")
