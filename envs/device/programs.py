"""Compiled programs of environments on the device."""

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax

from rlgd.envs.aliases import Functional
from rlgd.envs.device.device_env import DeviceEnv
from rlgd.envs.device.stable_state import Settled


class JitPerEnv:
    """``jax.jit`` of a function of a ``DeviceEnv``, whose programs live as long as the ``FuncEnv`` in it.

    JAX would keep an environment that is a static argument for ever.

    Args:
        function: with positional arguments only.
        env_argnum: which of them is the environment.
        static_argnums: which others are static.
        options: for ``jax.jit``.
    """

    def __init__(
        self, function: Callable[..., Any], env_argnum: int, static_argnums: tuple[int, ...] = (), **options: Any
    ) -> None:
        self._function, self._env_argnum, self._options = function, env_argnum, options
        self._static = tuple(number - (number > env_argnum) for number in static_argnums)  # among the others
        self._programs: weakref.WeakKeyDictionary[Functional, dict[Any, Any]] = weakref.WeakKeyDictionary()

    def __call__(self, *args: Any) -> Any:
        place = self._env_argnum
        return self.program(args[place])(*args[:place], *args[place + 1 :])

    def program(self, env: DeviceEnv) -> Any:
        """The compiled function of the other arguments."""
        programs = self._programs.setdefault(_owner(env), {})
        key = _rest(env)
        if key not in programs:
            function = _without_env(self._function, self._env_argnum, env)
            programs[key] = jax.jit(function, static_argnums=self._static, **self._options)
        return programs[key]


def _owner(env: DeviceEnv) -> Functional:
    """The functional environment as its author made it."""
    return env.func_env.env if isinstance(env.func_env, Settled) else env.func_env


def _rest(env: DeviceEnv) -> tuple[Any, ...]:
    """Everything that makes an environment beside its functions, in the order of its fields."""
    return tuple(getattr(env, field.name) for field in dataclasses.fields(env) if field.name != "func_env")


def _without_env(function: Callable[..., Any], env_argnum: int, env: DeviceEnv) -> Callable[..., Any]:
    """The function of the other arguments; it does not keep the functional environment alive."""
    owner, rest = weakref.ref(_owner(env)), _rest(env)
    state = env.func_env.state if isinstance(env.func_env, Settled) else None

    @functools.wraps(function)
    def of_the_others(*args: Any) -> Any:
        func_env = owner()
        assert func_env is not None  # the caller has it
        same = DeviceEnv(func_env if state is None else Settled(func_env, state), *rest)
        return function(*args[:env_argnum], same, *args[env_argnum:])

    return of_the_others
