"""``make``: from an id or an object to an environment."""

import dataclasses
import functools
import sys
from typing import Any, TypeAlias

import gymnasium
from gymnasium.envs.registration import load_env_creator
from gymnasium.experimental.functional import FuncEnv

from rlgd.envs.aliases import NAMESPACE, Functional
from rlgd.envs.device.device_env import DeviceEnv
from rlgd.envs.device.stable_state import settled
from rlgd.envs.functional.registration import GAME_IDS, TWINS
from rlgd.envs.host.host_env import HostEnv
from rlgd.envs.host.maker import load_namespace
from rlgd.envs.host.sources import as_json
from rlgd.envs.suites.catalog import SUITES, load
from rlgd.errors import UsageError, unknown
from rlgd.plugins import Kind

Env: TypeAlias = DeviceEnv | HostEnv

HERE = "rlgd.envs"  # the module that registers our ids with Gymnasium
FUNCTIONAL = ("phys2d/", "tabular/")  # Gymnasium's own functional environments
BACKENDS = ("auto", "device", "host")


def _check(name: str, part: Any) -> None:
    if not (isinstance(part, FuncEnv | DeviceEnv) or callable(part)):
        raise UsageError(
            f"{name!r} is {part!r}; expected a FuncEnv, what `randomized` returns, or a class or function that makes "
            "an environment."
        )


ENV = Kind("env", (*TWINS, *SUITES), _check)  # environments of users, by the names of their classes


def is_environment(part: Any) -> bool:
    """Whether a part is an environment of the user's, or a class of them; a function may make anything."""
    kinds = (gymnasium.Env, gymnasium.vector.VectorEnv, FuncEnv)
    return isinstance(part, (*kinds, DeviceEnv)) or (isinstance(part, type) and issubclass(part, kinds))


def device_ids() -> list[str]:
    """The ids with a twin on the device: of Gymnasium's own environments, and of those that rlgd adds."""
    return sorted(TWINS)


def make(
    env: Any,
    *,
    backend: str = "auto",
    max_episode_steps: int | None = None,
    vectorization: str = "auto",
    env_timeout: float | None = None,
    log_info: tuple[str, ...] = (),
    **kwargs: Any,
) -> Env:
    """An environment, on the device if it can run there, else on the host.

    Equal arguments give equal, hashable results: nothing compiles twice.

    Args:
        env: a Gymnasium id (its twin on the device is taken if there is one); an id of another suite, such as
            "brax:ant" (see ``SUITES``); ``module:Class``, or the name of an environment of an installed package; a
            ``FuncEnv``; a ``gymnasium.Env``, its class or a function that makes one; a ``gymnasium.vector.VectorEnv``;
            or a result of ``make``.
        backend: "auto", or "device" or "host" to force the choice.
        max_episode_steps: the time limit; None takes the registered one (of an object: its own, if any).
        vectorization: how environments on the host are stepped, see ``HostEnv``.
        env_timeout: seconds that a step on the host may take, in worker processes; None leaves it to ``vectorization``.
        log_info: names of numbers in the infos, or in a FuncEnv's ``state_info``, which training records; of an id that
            Gymnasium has "auto" then takes Gymnasium's own environment, which may give them.
        kwargs: passed to Gymnasium, or to the class or function.

    Raises:
        UsageError: for an unknown id or backend, an unsupported space, or arguments that do not fit.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UsageError(f"max_episode_steps is {max_episode_steps}; allowed: a whole number from 1.")
    on_host: dict[str, Any] = {"vectorization": vectorization, "timeout": env_timeout, "log_info": tuple(log_info)}
    needs_host = vectorization != "auto" or env_timeout is not None
    if isinstance(env, DeviceEnv | HostEnv):
        if backend != "auto" or max_episode_steps is not None or needs_host or log_info or kwargs:
            raise UsageError(
                f"{env.env_id} is already made; pass backend, max_episode_steps and arguments with its id."
            )
        return env
    if isinstance(env, str):
        env = _without_module(env)
        prefix, colon, name = env.partition(":")
        if colon and prefix in SUITES:
            func_env, limit = load(prefix, name)
            made = _on_device(func_env, env, max_episode_steps or limit, backend, needs_host, kwargs)
            return made.with_log_info(tuple(log_info))
        if isinstance(part := part_of_user(env), DeviceEnv):
            limit = max_episode_steps or part.max_episode_steps
            made = _on_device(part.func_env, env, limit, backend, needs_host, kwargs)
            return made.with_log_info(tuple(log_info))
        if part is not None:
            limits: dict[str, Any] = {"backend": backend, "max_episode_steps": max_episode_steps}
            of_user = make(part, **limits, vectorization=vectorization, env_timeout=env_timeout,
                           log_info=log_info, **kwargs)  # fmt: skip
            return dataclasses.replace(of_user, env_id=env)
        return _registered(full_id(env), backend, max_episode_steps, needs_host, on_host, kwargs)
    env = _ready(env) if isinstance(env, type) else env
    if isinstance(env, FuncEnv):
        made = _on_device(env, type(env).__name__, max_episode_steps, backend, needs_host, kwargs)
        return made.with_log_info(tuple(log_info))
    if backend == "device":
        raise UsageError(f"{env!r} runs on the host; on the device runs a FuncEnv, or an id of device_ids().")
    return HostEnv.of(env, max_episode_steps=max_episode_steps, **on_host, **kwargs)


def in_gymnasium(env: Env) -> Env:
    """Gymnasium's own environment where the id is Gymnasium's, else the environment itself."""
    if isinstance(env, DeviceEnv) and env.env_id in gymnasium.registry:
        return HostEnv(env.env_id, env.max_episode_steps)
    return env


def in_place(env: Any, backend: str, max_episode_steps: int | None, log_info: tuple[str, ...]) -> Env:
    """An environment that is given in place of a run's own one, whose settings the other arguments are.

    An id keeps the place where it runs; a FuncEnv, a class or a function keeps the time limit and what is recorded.
    """
    if isinstance(env, str):
        return make(env, backend=backend)
    if isinstance(env, FuncEnv) or callable(env):
        return make(env, max_episode_steps=max_episode_steps, log_info=log_info)
    return make(env)


def part_of_user(env_id: str) -> Any:
    """The environment of a user with this name: a FuncEnv, what ``randomized`` returned, or what makes one.

    None: Gymnasium knows it.

    The module before a colon is imported: as for ``load_namespace``, the id must not come from a file.

    Raises:
        UsageError: if it cannot be imported, or is no environment.
    """
    if env_id in gymnasium.registry or env_id in TWINS:
        return None
    if env_id in ENV.installed():
        return _ready(ENV.get(env_id))
    module, colon, attribute = env_id.partition(":")
    if not colon:
        return None
    load_namespace(env_id)
    if not hasattr(sys.modules[module], attribute.partition(".")[0]):
        return None  # the rest is an id that the module has registered
    return _ready(ENV.named(env_id))


@functools.cache
def _ready(part: Any) -> Any:
    """A FuncEnv of a class, always the same; anything else as it is."""
    return part() if isinstance(part, type) and issubclass(part, FuncEnv) else part


def is_known(env_id: str) -> bool:
    """Whether an id out of a file can be made without importing a module that the user has not named.

    Raises:
        UsageError: if it is a game of ale-py, which is imported for them, and that is not installed.
    """
    if ":" not in env_id:
        load_namespace(env_id)
    ours = env_id in gymnasium.registry or env_id.partition(":")[0] in SUITES
    return ours or ENV.may_be_read(env_id)


def refuse_module_id(env_id: str) -> None:
    """Refuse an id out of a file that would import a module which the user has not named.

    Raises:
        UsageError: naming it.
    """
    module, colon, _ = env_id.partition(":")
    if colon and not is_known(env_id):
        raise UsageError(
            f"the environment {env_id!r} imports the module {module!r}; name it yourself: --env {env_id}, or --trust "
            f"{module.partition('.')[0]}."
        )


def _on_device(
    func_env: Functional, name: str, limit: int | None, backend: str, needs_host: bool, kwargs: dict[str, Any]
) -> DeviceEnv:
    if backend == "host" or needs_host or kwargs:
        given = f" (got {', '.join(kwargs)})" if kwargs else ""
        raise UsageError(
            f"{name} runs on the device: it takes no arguments{given}, no backend 'host', no vectorization, no timeout."
        )
    return DeviceEnv(settled(func_env), name, limit)


def full_id(env_id: str) -> str:
    """The complete id that ``make`` uses: an id without a version gets the newest one.

    Raises:
        UsageError: if there is no such id; the message names the nearest ones.
    """
    env_id = _without_module(env_id)
    if env_id.partition(":")[0] in SUITES or env_id in ENV.installed():
        return env_id
    own = env_id.removeprefix(f"{NAMESPACE}/")
    if own in TWINS:
        return own
    load_namespace(env_id)
    if env_id in gymnasium.registry or ":" in env_id:
        return env_id
    newest = _latest_version(env_id)
    if newest is None:
        known = [name for name, spec in gymnasium.registry.items() if spec.entry_point is not None]
        raise unknown("environment", env_id, known)
    return newest


def _without_module(env_id: str) -> str:
    """An id as others write it for Gymnasium, ``rlgd.envs:rlgd/...``, as we do; the games have a prefix of ours."""
    plain = env_id.removeprefix(f"{HERE}:")
    return GAME_IDS.get(plain) or GAME_IDS.get(f"{plain}-v1") or plain


def _registered(
    env_id: str,
    backend: str,
    limit: int | None,
    needs_host: bool,
    on_host: dict[str, Any],
    kwargs: dict[str, Any],
) -> Env:
    # A twin equals the registered environment; with other arguments it would not, so Gymnasium's own is made.
    on_device, log_info = env_id in TWINS or env_id.startswith(FUNCTIONAL), on_host["log_info"]
    if backend == "host" or (backend == "auto" and (not on_device or needs_host or log_info or kwargs)):
        return HostEnv(env_id, limit, as_json(env_id, kwargs), **on_host)
    if not on_device:
        raise UsageError(
            f"{env_id} has no twin on the device; those that have: {', '.join(device_ids())}. Use backend 'host'."
        )
    if kwargs or needs_host:
        given = ", ".join(kwargs) or "vectorization or a timeout"
        raise UsageError(f"{env_id} takes no arguments on the device; got {given}. Use backend 'host'.")
    return _device(env_id, limit).with_log_info(log_info)


def _latest_version(name: str) -> str | None:
    """The id with the highest version for a name without one, which is also Gymnasium's choice."""
    namespace, _, plain = name.rpartition("/")
    wanted = (namespace or None, plain)
    versions = [spec.version for spec in gymnasium.registry.values() if (spec.namespace, spec.name) == wanted]
    return f"{name}-v{max(version or 0 for version in versions)}" if versions else None


@functools.cache
def _device(env_id: str, max_episode_steps: int | None) -> DeviceEnv:
    limit = max_episode_steps or gymnasium.registry[env_id].max_episode_steps
    if env_id in TWINS:
        twin: Any = load_env_creator(TWINS[env_id])
        return DeviceEnv(twin(), env_id, limit)
    # Gymnasium registers a shell around its functional environment.
    shell: Any = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    return DeviceEnv(settled(type(shell.func_env)()), env_id, limit)
