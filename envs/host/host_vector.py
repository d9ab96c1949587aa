"""Running environments on the host, stepped together."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rlgd.envs.aliases import LIVES, Bools, GymVector, Info
from rlgd.envs.host.action_masks import ActionMasks
from rlgd.envs.host.checked import Broken
from rlgd.envs.host.host_step import HostStep
from rlgd.envs.host.infos import Infos
from rlgd.envs.host.obs_storage import ObsStorage, all_finite
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.pytrees import Obs
from rlgd.spaces import Spec


class Fallback(NamedTuple):
    """Other environments, for the case that the first reset fails.

    Attributes:
        make: makes them.
        report: takes what failed, says it, and returns how environments are stepped now.
    """

    make: Callable[[], GymVector]
    report: Callable[[Exception], str]


class HostVector:
    """Running environments; ``step`` returns the same kind of ``HostStep`` whatever their autoreset mode.

    Args:
        vector: the environments, with their autoreset mode in ``metadata["autoreset_mode"]``.
        spec: of one of them.
        env_id: names them in messages.
        how: how they are stepped, for the console.
        release: what ``close`` calls; None closes ``vector``.
        fallback: takes the place of ``vector`` if the first reset fails there; None: nothing does.
        log_info: names of numbers in their infos.

    Attributes:
        infos: sums of the numbers in the infos; who steps adds each step.

    Raises:
        UsageError: if the metadata have no autoreset mode.
    """

    def __init__(
        self,
        vector: GymVector,
        spec: Spec,
        env_id: str,
        how: str = "a vector environment",
        release: Callable[[], None] | None = None,
        fallback: Fallback | None = None,
        log_info: Sequence[str] = (),
    ) -> None:
        self.vector = vector
        self.spec = spec
        self.env_id = env_id
        self.how = how
        self._release = vector.close if release is None else release
        self._fallback = fallback
        mode = vector.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise UsageError(
                f"{env_id} does not say its autoreset mode, which must be in metadata['autoreset_mode']; the metadata "
                f"are {vector.metadata}. Use vectorization 'sync', or set it; `rlgd check-env` finds out which it is."
            )
        self.mode = mode
        self._storage = ObsStorage(spec.obs, vector.num_envs)
        self._masks = ActionMasks(spec.action)
        self.infos = Infos(log_info, vector.num_envs)
        self._everyone = np.ones(vector.num_envs, bool)
        self._everyone.flags.writeable = False  # callers get this very array
        self._begin()

    def _begin(self) -> None:
        self._resetting = ~self._everyone
        self._num_steps = 0
        self._action: Any = None
        self._lives: NDArray[Any] | None = None

    @property
    def action_mask(self) -> Bools | None:
        """``[N, n]`` bool, which actions the next step allows; None if the environments never gave a mask."""
        return self._masks.current

    @property
    def has_reset_rows(self) -> bool:
        """Whether some rows are resets, which are not transitions."""
        return self.mode is AutoresetMode.NEXT_STEP

    @property
    def tells_lives(self) -> bool:
        """Whether the infos of the last reset or step say how many lives are left."""
        return self._lives is not None

    def reset(self, seed: int | None = None) -> Obs:
        """Begin an episode everywhere: ``obs [N, ...]``. Without a seed the environments' generators continue.

        Raises:
            EnvironmentFault: as ``step`` does.
        """
        self._begin()
        try:
            obs, info = self._reset(seed)
            self._masks.read(info, self._everyone, self._resetting)
            self._lives = self.infos.numbers(info, LIVES)
            return self._storage.batch(obs)
        except Broken as broken:
            raise self._fault(broken) from broken.__cause__

    def _reset(self, seed: int | None) -> Any:
        fallback, self._fallback = self._fallback, None
        try:
            return self._ask(self.vector.reset, seed=seed)
        except (Broken, EnvironmentFault) as fault:
            if fallback is None:
                raise
            self.close()
            self.vector = fallback.make()
            self._release = self.vector.close
            answer = self._ask(self.vector.reset, seed=seed)  # raises if the environment itself is at fault
            self.how = fallback.report(fault)
            return answer

    def step(self, action: Any) -> HostStep:
        """Step every environment with ``action [N, ...]``; a dictionary or tuple of arrays where its space is one.

        Raises:
            EnvironmentFault: if an environment raises, hangs or dies; gives an observation or reward that is not finite
                or does not fit its space; or does not follow the autoreset mode in its metadata.
        """
        self._action = action
        try:
            obs, reward, terminated, truncated, info = self._ask(self.vector.step, action)
            rewards = self._rewards(reward)
            step = self._as_step(obs, rewards, np.array(terminated, bool), np.array(truncated, bool), info)
        except Broken as broken:
            raise self._fault(broken) from broken.__cause__
        self._num_steps += 1
        return step

    def close(self) -> None:
        """End the environments; a second call does nothing."""
        self._release()

    def _ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Broken:
            raise
        except Exception as error:
            raise EnvironmentFault(f"{self.env_id} raised {error!r} {self._when()}.") from error

    def _as_step(self, obs: Any, reward: NDArray[Any], terminated: Bools, truncated: Bools, info: Info) -> HostStep:
        done = terminated | truncated
        numbers = self.infos.read(info, done, self.mode is AutoresetMode.SAME_STEP)
        life_lost = self._life_lost(numbers.get(LIVES))
        self._remember_lives(self._everyone, self.infos.numbers(info, LIVES))  # after SAME_STEP's resets
        if self.mode is AutoresetMode.NEXT_STEP:
            was_reset, self._resetting = self._resetting, done
            self._check_next_step(was_reset, reward, done, info)
            self._masks.read(info, self._everyone, self._resetting)
            batch, valid = self._storage.batch(obs), ~was_reset
            lost = None if life_lost is None else life_lost & valid
            return HostStep(batch, was_reset, reward, terminated, truncated, valid, {}, numbers, lost)
        final_obs = {}
        self._masks.read(info, self._everyone, self._resetting)
        if np.count_nonzero(done):
            final_obs = {n: self._final(obs, info, n) for n in np.flatnonzero(done).tolist()}
            if self.mode is AutoresetMode.DISABLED:
                obs, info = self._ask(self.vector.reset, options={"reset_mask": done})
                self._masks.read(info, done, self._resetting)
                self._remember_lives(done, self.infos.numbers(info, LIVES))
        needed = {n: final for n, final in final_obs.items() if truncated[n]}
        batch, valid = self._storage.batch(obs), self._everyone
        return HostStep(batch, done, reward, terminated, truncated, valid, needed, numbers, life_lost)

    def _life_lost(self, lives: NDArray[Any] | None) -> Bools | None:
        """Where fewer lives are left after a step than before it; None if the environments do not tell them."""
        if lives is None or self._lives is None:
            return None
        return lives < self._lives

    def _remember_lives(self, which: Bools, lives: NDArray[Any] | None) -> None:
        """Remember the lives of some environments, where they are told."""
        if self._lives is not None and lives is not None:
            self._lives = np.where(which & ~np.isnan(lives), lives, self._lives)

    def _check_next_step(self, was_reset: Bools, reward: NDArray[Any], done: Bools, info: Info) -> None:
        if "final_obs" in info:
            raise self._wrong_mode("gives final_obs, as SAME_STEP autoreset does,")
        number = was_reset.argmax()  # one environment a step is enough: a wrong mode shows again and again
        if was_reset[number] and (reward[number] != 0 or done[number]):
            raise self._wrong_mode("gives a reward or an end where it has only to reset,")

    def _final(self, obs: Any, info: Info, number: int) -> Obs:
        """The true observation of an environment whose episode ended."""
        if self.mode is AutoresetMode.DISABLED:
            if "final_obs" in info:
                raise self._wrong_mode("gives final_obs, as SAME_STEP autoreset does,")
            return self._storage.row(obs, number)
        final = info.get("final_obs")
        if final is None or final[number] is None:
            raise self._wrong_mode("gives no final_obs at the end of an episode")
        return self._storage.single(final[number], number)

    def _wrong_mode(self, what: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"the metadata of {self.env_id} say {self.mode.name} autoreset, but it {what} {self._when()}; "
            f"`rlgd check-env {self.env_id}` shows what it really does."
        )

    def _rewards(self, reward: Any) -> NDArray[Any]:
        rewards = np.array(reward)
        if rewards.shape != self._everyone.shape or rewards.dtype.kind not in "fiub":
            raise Broken(
                None,
                f"gave the rewards as {rewards.dtype} in the shape {rewards.shape}, which must be numbers in the shape "
                f"{self._everyone.shape},",
            )
        if not all_finite(rewards, np.float32):
            with np.errstate(over="ignore"):
                number = int(np.flatnonzero(~np.isfinite(rewards.astype(np.float32)))[0])
            wrong = "float32 cannot hold" if np.isfinite(rewards[number]) else "must be finite"
            raise Broken(number, f"gave the reward {rewards[number]}, which {wrong},")
        return rewards

    def _fault(self, broken: Broken) -> EnvironmentFault:
        if broken.number is None:
            return EnvironmentFault(f"{self.env_id} {broken.what} {self._when()}.")
        action = "" if self._action is None else f"; its last action was {_brief(self._action, broken.number)}"
        return EnvironmentFault(f"{self.env_id}: {broken} {self._when()}{action}.")

    def _when(self) -> str:
        return "in the reset" if self._action is None else f"in step {self._num_steps} since the reset"


def _brief(action: Any, number: int) -> str:
    """The action of one environment; of parts in a dictionary or tuple each."""
    if isinstance(action, dict):
        return "{" + ", ".join(f"{name!r}: {_brief(part, number)}" for name, part in action.items()) + "}"
    if isinstance(action, tuple):
        return "(" + ", ".join(_brief(part, number) for part in action) + ")"
    action = action[number]
    return np.array2string(np.asarray(action), precision=4, threshold=8, separator=", ")
