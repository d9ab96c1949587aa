"""How an environment on the host is made. Worker processes import this module: it imports no JAX."""

import copy
import dataclasses
import importlib
import statistics
import time
from collections.abc import Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TimeLimit

from rlgd.envs.aliases import NAMESPACE, GymEnv, Info
from rlgd.envs.host.mujoco_tasks import TASKS
from rlgd.envs.host.randomness import set_apart
from rlgd.envs.mujoco_warnings import show_mujoco_warnings
from rlgd.errors import UsageError
from rlgd.plugins import look_here

ATARI = "ALE"  # the namespace of ale-py's environments
ATARI_FRAMES = 4  # each step repeats its action for this many frames; each observation stacks this many images

MEASURED_STEPS, MEASURED_SECONDS = 20, 0.2


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes an environment; can be sent to a worker process.

    Attributes:
        source: the registered description of a Gymnasium id, a ``gymnasium.Env`` class, a function that makes an
            environment, or an environment, of which copies are made.
        kwargs: arguments for the environment; not used where ``source`` is an environment.
        max_episode_steps: the time limit; None keeps the environment's own.
        log_info: names of numbers in its infos that are recorded.
    """

    source: Any
    kwargs: Mapping[str, Any]
    max_episode_steps: int | None = None
    log_info: tuple[str, ...] = ()

    def __call__(self, number: int = 0) -> GymEnv:
        """A new environment.

        Args:
            number: which of several it is. Copies with different numbers have different random generators.

        Raises:
            UsageError: if the source cannot be copied, or makes something that is not an environment.
        """
        if isinstance(self.source, EnvSpec):
            return self._registered(self.source)
        made = _copied(self.source, number) if isinstance(self.source, gymnasium.Env) else self.source(**self.kwargs)
        if not isinstance(made, gymnasium.Env):
            raise UsageError(f"{self.source!r} made {made!r}; it must make a gymnasium.Env.")
        return self._limited(made)

    def _registered(self, spec: EnvSpec) -> GymEnv:
        arguments = {"disable_env_checker": True, **self.kwargs}
        load_namespace(spec.id)
        load_entry_point(spec)
        if spec.namespace == ATARI:  # ale-py's own limit counts frames; ours counts steps of several frames
            return self._limited(_preprocessed(gymnasium.make(spec, **{"frameskip": 1, **arguments})))
        return gymnasium.make(spec, max_episode_steps=self.max_episode_steps, **arguments)

    def _limited(self, env: GymEnv) -> GymEnv:
        return env if self.max_episode_steps is None else TimeLimit(env, self.max_episode_steps)


def _preprocessed(env: GymEnv) -> GymEnv:
    """An Atari game with Gymnasium's preprocessing: observations are ``uint8 [4, 84, 84]``.

    The game stays as it is if its arguments ask for observations other than images, or for another frame skip.
    """
    if len(env.observation_space.shape or ()) < 2 or getattr(env.unwrapped, "_frameskip", None) != 1:
        return env
    return FrameStackObservation(AtariPreprocessing(env, frame_skip=ATARI_FRAMES), ATARI_FRAMES)


def registered(env_id: str) -> EnvSpec:
    """Gymnasium's description of an id; imports the package that registers it, see ``load_namespace``.

    Raises:
        UsageError: if ale-py or the module is missing.
        gymnasium.error.Error: if there is no such id.
    """
    load_namespace(env_id)
    return gymnasium.spec(env_id.partition(":")[2] or env_id)


def load_namespace(env_id: str) -> None:
    """Import what registers an id, where that is not Gymnasium: ale-py for ``ALE/...``, the module of ``module:...``.

    Callers must not pass an id with a module in front if it was read from a file: importing runs the module's code.

    Raises:
        UsageError: if it is not installed.
    """
    module, colon, _ = env_id.partition(":")
    if colon:
        look_here()
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise UsageError(f"the module of {env_id} cannot be imported: {error}.") from error
    if env_id.partition("/")[0] == ATARI:
        try:
            ale_py = importlib.import_module("ale_py")
        except ImportError as error:
            raise UsageError(f"{env_id} needs ale-py ({error}): pip install 'rlgd[atari]'.") from error
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # otherwise each game prints its version


def load_entry_point(spec: EnvSpec) -> None:
    """Import what an environment is made with, if that is known by name; MuJoCo's warnings then go where ours go."""
    if isinstance(spec.entry_point, str):
        load_env_creator(spec.entry_point)
    show_mujoco_warnings()


def task_of(env_id: str) -> str | None:
    """Which of the MuJoCo tasks that are stepped in threads an id is, with rlgd's namespace or without; None: none."""
    name = env_id.removeprefix(f"{NAMESPACE}/")
    return name if name in TASKS else None


def why_not_native(env_id: str) -> str | None:
    """Why Gymnasium's own vector environment of an id is not used; None if it can be used."""
    spec = registered(env_id)
    if spec.vector_entry_point is None:
        return f"Gymnasium has no native vector environment for {env_id}"
    if task_of(env_id) is not None:
        return f"the native vector environment of {env_id} is vectorization 'threads'"
    if spec.namespace == NAMESPACE:
        return f"the native vector environment of {env_id} runs on the device"
    if spec.namespace == ATARI:
        return f"the native vector environment of {env_id} clips rewards and has a preprocessing of its own"
    creator = spec.vector_entry_point
    made_by = load_env_creator(creator) if isinstance(creator, str) else creator
    if any(base.__name__ == "FunctionalJaxVectorEnv" for base in getattr(made_by, "__mro__", ())):
        return f"the native vector environment of {env_id} loses steps of all environments when one of them resets"
    return None


class Measured(NamedTuple):
    """What a few steps of an environment show.

    Attributes:
        seconds: the median of a step. The first step may compile and is left out.
        obstacle: why a worker process could not send an info; None: it could send all that were seen.
    """

    seconds: float
    obstacle: str | None


def measure(env: GymEnv) -> Measured:
    """Take a few steps with random actions. Raises whatever the environment raises."""
    times: list[float] = []
    _, info = env.reset(seed=0)
    obstacle = _obstacle(info)
    env.action_space.seed(0)
    while len(times) < 2 or (len(times) <= MEASURED_STEPS and sum(times[1:]) < MEASURED_SECONDS):
        mask = info.get("action_mask")
        action = env.action_space.sample() if mask is None else env.action_space.sample(mask)
        start = time.perf_counter()
        _, _, terminated, truncated, info = env.step(action)
        times.append(time.perf_counter() - start)
        obstacle = obstacle or _obstacle(info)
        if terminated or truncated:
            _, info = env.reset()
            obstacle = obstacle or _obstacle(info)
    return Measured(statistics.median(times[1:]), obstacle)


def _obstacle(info: Info) -> str | None:
    try:
        ForkingPickler.dumps(info)
    except Exception as error:
        return f"an info cannot be pickled: {error}"
    return None


def _copied(env: GymEnv, number: int) -> GymEnv:
    copies: dict[int, Any] = {}
    try:
        copied = copy.deepcopy(env, copies)
    except Exception as error:
        raise UsageError(
            f"{env} cannot be copied ({error}), and each of several environments needs a copy; give its class, its "
            "Gymnasium id or a function that makes it instead."
        ) from error
    if number:  # the first copy draws what the environment itself would draw
        set_apart(list(copies.values()), number)
    return copied
