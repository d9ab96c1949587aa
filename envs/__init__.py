"""Environments: on-device ones, and the bridge to Gymnasium. ``make`` turns an id into either."""

import functools
import json
from typing import Any, TypeAlias

import gymnasium
from gymnasium.experimental.functional import FuncEnv

from rlgd.envs.cartpole import CartPole
from rlgd.envs.device import DeviceEnv
from rlgd.envs.host import HostEnv
from rlgd.errors import UsageError, unknown

__all__ = ["CartPole", "DeviceEnv", "Env", "HostEnv", "device_ids", "make"]

Env: TypeAlias = DeviceEnv | HostEnv

# Gymnasium's id: the same environment on the device
TWINS: dict[str, type[FuncEnv[Any, Any, Any, Any, Any, Any, Any]]] = {"CartPole-v1": CartPole}
BACKENDS = ("auto", "device", "host")


def device_ids() -> list[str]:
    """The Gymnasium ids that have a twin on the device."""
    return sorted(TWINS)


def make(
    env: "str | Env | FuncEnv[Any, Any, Any, Any, Any, Any, Any]",
    *,
    backend: str = "auto",
    max_episode_steps: int | None = None,
    **kwargs: Any,
) -> Env:
    """An environment by its Gymnasium id, on the device where a twin is registered, else on the host.

    Equal arguments give equal, hashable results: nothing compiles twice.

    Args:
        env: a Gymnasium id; a FuncEnv, which runs on the device; or what ``make`` returned.
        backend: "auto", or "device" or "host" to force the choice.
        max_episode_steps: the time limit; None takes the registered one (for a FuncEnv: none).
        kwargs: handed to Gymnasium.

    Raises:
        UsageError: for an unknown id or backend, an unsupported space, or arguments that do not fit.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UsageError(f"max_episode_steps is {max_episode_steps}; allowed: a whole number from 1.")
    if isinstance(env, DeviceEnv | HostEnv):
        if backend != "auto" or max_episode_steps is not None or kwargs:
            raise UsageError(f"{env.env_id} is already made; backend, max_episode_steps and arguments go with its id.")
        return env
    if isinstance(env, FuncEnv):
        name = type(env).__name__
        if backend == "host" or kwargs:
            raise UsageError(
                f"{name} is a FuncEnv: it takes no arguments ({', '.join(kwargs)}) and has no backend 'host'."
            )
        return DeviceEnv(env, name, max_episode_steps)
    if env not in gymnasium.registry and ":" not in env:
        resolved = _latest_version(env)
        if resolved is None:
            raise unknown("environment", env, gymnasium.registry)
        env = resolved
    # A twin is the registered environment: other arguments make another environment, which is Gymnasium's.
    if backend == "host" or (backend == "auto" and (env not in TWINS or kwargs)):
        try:
            return HostEnv(env, max_episode_steps, json.dumps(kwargs, sort_keys=True))
        except TypeError as error:
            raise UsageError(
                f"arguments of {env} must be JSON values, so that the run can be repeated: {error}."
            ) from error
    if env not in TWINS:
        raise UsageError(
            f"{env} has no twin on the device; those that have: {', '.join(device_ids())}. Use backend 'host'."
        )
    if kwargs:
        raise UsageError(f"{env} takes no arguments on the device; got {', '.join(kwargs)}. Use backend 'host'.")
    return _device(env, max_episode_steps)


def _latest_version(name: str) -> str | None:
    """The id with the highest version, for a name without one, as Gymnasium would choose."""
    namespace, _, plain = name.rpartition("/")
    wanted = (namespace or None, plain)
    versions = [spec.version for spec in gymnasium.registry.values() if (spec.namespace, spec.name) == wanted]
    return f"{name}-v{max(version or 0 for version in versions)}" if versions else None


@functools.cache
def _device(env_id: str, max_episode_steps: int | None) -> DeviceEnv:
    return DeviceEnv(TWINS[env_id](), env_id, max_episode_steps or gymnasium.registry[env_id].max_episode_steps)
