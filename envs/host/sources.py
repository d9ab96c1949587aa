"""What a ``HostEnv`` is made from: its name, its arguments, its spaces, and whether they fit together."""

import contextlib
import functools
import inspect
import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper

from rlgd.envs.aliases import GymEnv, GymVector, Space
from rlgd.envs.host.randomness import in_common, own_generators
from rlgd.errors import UsageError


class Description(NamedTuple):
    """The spaces and the time limit of one environment, and what its users may need to know."""

    obs_space: Space
    action_space: Space
    max_episode_steps: int | None
    warnings: list[str]
    has_generators: bool = False


def describe_vector(vector: GymVector) -> Description:
    """The spaces and the time limit of one environment of a vector; None if its spec names no limit."""
    limit = getattr(vector.spec, "max_episode_steps", None)
    return Description(vector.single_observation_space, vector.single_action_space, limit, statistics(vector))


def describe(env: GymEnv, limit: int | None) -> Description:
    """The spaces of an environment, and its own time limit or ``limit``, if that is shorter."""
    own = None if env.spec is None else env.spec.max_episode_steps
    shortest = min((each for each in (own, limit) if each is not None), default=None)
    found = bool(own_generators(env))
    return Description(env.observation_space, env.action_space, shortest, statistics(env), found)


def statistics(env: GymEnv | GymVector) -> list[str]:
    """A warning for each wrapper that keeps running statistics, which no other environment has."""
    warnings = []
    while isinstance(env, gymnasium.Wrapper | VectorWrapper):
        if any(type(value).__name__ == "RunningMeanStd" for value in vars(env).values()):
            wrapper = type(env).__name__
            instead = "scale_reward" if "Reward" in wrapper else "normalize_obs"
            warnings.append(
                f"its wrapper {wrapper} keeps statistics in each environment: evaluations, and a loaded policy, begin "
                f"without them. Leave it out, and give the agent {instead}=True, which is kept with the policy."
            )
        env = env.env
    return warnings + (statistics(env.envs[0]) if isinstance(env, SyncVectorEnv) else [])


def common_numbers(make: Callable[[int], GymEnv]) -> list[str]:
    """A warning for each random generator that is the same in two environments, made by ``make`` by their numbers."""
    try:
        names = in_common(make)
    except Exception:  # the run itself will report what fails
        names = []
    return [
        f"its random generator {name} begins alike in every environment, whatever seed reset gets: all draw the same "
        "numbers. Seed it in reset(seed=...), or draw from self.np_random."
        for name in names
    ]


def name_of(source: Any) -> str:
    """A name for an environment that is not given by its id.

    Raises:
        UsageError: if no environment can be made from it.
    """
    made = isinstance(source, gymnasium.Env | VectorEnv)
    if not made and not callable(source):
        raise UsageError(
            f"{source!r} is not an environment; allowed: a Gymnasium id, a gymnasium.Env class or a function that "
            "makes one, a gymnasium.Env, a gymnasium.vector.VectorEnv, or a FuncEnv."
        )
    if inspect.isclass(source) or inspect.isfunction(source):
        return source.__name__ if source.__name__.isidentifier() else "environment"  # a lambda has no usable name
    return type(source.unwrapped if isinstance(source, gymnasium.Env) else source).__name__


def as_json(name: str, kwargs: Mapping[str, Any]) -> str:
    """The arguments of an environment as ``HostEnv`` keeps them.

    Raises:
        UsageError: if they are not JSON values.
    """
    try:
        return json.dumps(kwargs, sort_keys=True)
    except TypeError as error:
        raise UsageError(
            f"arguments of {name} must be JSON values, so that the run can be repeated: {error}."
        ) from error


_borrowed: "weakref.WeakSet[GymVector]" = weakref.WeakSet()


def borrow(vector: GymVector, num_envs: int, env_id: str) -> Callable[[], None]:
    """Mark a running vector environment as in use; returns what gives it back, still open.

    Raises:
        UsageError: if it is in use, or has another number of environments.
    """
    if vector.num_envs != num_envs:
        raise UsageError(
            f"{env_id} is a running vector environment of {vector.num_envs} environments, but {num_envs} are needed; "
            "give the environment's class or id, or set num_envs to its number."
        )
    if vector in _borrowed:
        raise UsageError(
            f"{env_id} is a running vector environment and in use; give the environment's class or id, so that more "
            "can be made."
        )
    _borrowed.add(vector)
    return functools.partial(_borrowed.discard, vector)


@contextlib.contextmanager
def explained(env_id: str) -> Iterator[None]:
    """Turn an exception while an environment is made into a ``UsageError`` that names it."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{env_id} cannot be made: {error}") from error
