"""What a worker process receives: a maker, and what the caller's script has registered. It imports no JAX."""

import contextlib
import pickle
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector.utils import CloudpickleWrapper

from rlgd.envs.aliases import GymEnv

IN_SCRIPT = "__main__:"  # an entry point in the script itself, "__main__:Robot"


class Registrations(NamedTuple):
    """Gymnasium's registry, and what its entry points name in the script; each entry is pickled by itself.

    An entry that cannot be pickled, or read in the worker, is left out: others are seldom made with it.
    """

    entries: dict[str, bytes]
    in_script: dict[str, bytes]

    @staticmethod
    def here() -> "Registrations":
        """Those of this process."""
        registry, script = dict(gymnasium.registry), sys.modules["__main__"]
        named = {name for spec in registry.values() for name in _in_script(spec) if hasattr(script, name)}
        return Registrations(_pickled(registry), _pickled({name: getattr(script, name) for name in named}))

    def restore(self) -> None:
        """Register them in this process."""
        for entries, take in (
            (self.entries, gymnasium.registry.__setitem__),
            (self.in_script, sys.modules["__main__"].__setattr__),
        ):
            for name, entry in entries.items():
                with contextlib.suppress(Exception):
                    take(name, loads(entry))


def _pickled(objects: dict[str, Any]) -> dict[str, bytes]:
    pickled = {}
    for name, value in objects.items():
        with contextlib.suppress(Exception):
            pickled[name] = dumps(value)
    return pickled


def _in_script(spec: EnvSpec) -> list[str]:
    """The names in the script that the entry points of an environment and its wrappers have."""
    creators = (
        spec.entry_point,
        spec.vector_entry_point,
        *(wrapper.entry_point for wrapper in spec.additional_wrappers),
    )
    return [name.removeprefix(IN_SCRIPT) for name in creators if isinstance(name, str) and name.startswith(IN_SCRIPT)]


class Parcel:
    """A maker that a worker process reads when it is called there, so that what fails can be reported.

    Args:
        maker: makes an environment.
        registrations: what the worker registers before that.
    """

    def __init__(self, maker: Callable[[], GymEnv], registrations: Registrations) -> None:
        self._maker, self._registrations = maker, registrations

    def __call__(self) -> GymEnv:
        return self._maker()

    def __reduce__(self) -> Any:
        return _Received, (dumps(self._maker), self._registrations)


class _Received:
    """A ``Parcel`` in the worker process."""

    def __init__(self, content: bytes, registrations: Registrations) -> None:
        self._content, self._registrations = content, registrations

    def __call__(self) -> GymEnv:
        self._registrations.restore()
        maker: Callable[[], GymEnv] = loads(self._content)
        return maker()


def dumps(value: Any) -> bytes:
    """Pickled, with what the script itself defines, lambdas included."""
    return pickle.dumps(CloudpickleWrapper(value))


def loads(content: bytes) -> Any:
    """The reverse of ``dumps``; only for what this program has pickled."""
    return pickle.loads(content).fn
