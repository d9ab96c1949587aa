"""Environments on the host, stepped side by side."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from rlgd import spaces
from rlgd.envs.host.checked import Broken, flat_mask
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.pytrees import Obs
from rlgd.spaces import DictSpec, LeafSpec, MultiDiscreteSpec, ObsSpec, Spec, TupleSpec

Bools: TypeAlias = NDArray[np.bool_]
Vector: TypeAlias = VectorEnv[Any, Any, Any]


class HostStep(NamedTuple):
    """One step of N environments.

    Attributes:
        obs: ``[N, ...]``, what the policy sees next; a dictionary or tuple of arrays where the space is one.
        first: ``[N]`` bool, whether ``obs`` begins an episode.
        reward: ``[N]``.
        terminated, truncated: ``[N]`` bool.
        valid: ``[N]`` bool, False where the step was no transition but a reset (NEXT_STEP autoreset).
        final_obs: the true observation behind each truncation, by environment; empty where ``obs`` is the true one.
    """

    obs: Obs
    first: Bools
    reward: NDArray[Any]
    terminated: Bools
    truncated: Bools
    valid: Bools
    final_obs: dict[int, Obs]

    def only(self, real: Bools) -> "HostStep":
        """The step with the environments outside ``real [N]`` masked."""
        return self._replace(
            valid=self.valid & real, terminated=self.terminated & real, truncated=self.truncated & real
        )


class _Array(NamedTuple):
    """One array of the observations: its name in messages, and how it is stored."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _arrays(obs: ObsSpec, batch: tuple[int, ...], name: str = "observation") -> Any:
    """The ``_Array`` of every part of an observation, in its structure."""
    if isinstance(obs, DictSpec):
        return {key: _arrays(part, batch, f"{name}[{key!r}]") for key, part in obs.parts}
    if isinstance(obs, TupleSpec):
        return tuple(_arrays(part, batch, f"{name}[{i}]") for i, part in enumerate(obs.parts))
    shape, dtype = spaces.obs_shape_dtype(obs)
    return _Array(name, batch + shape, dtype)


def _mask_starts(action: LeafSpec) -> list[int]:
    """Where in an action mask the values of each number begin."""
    return [0, *np.cumsum(action.nvec)[:-1].tolist()] if isinstance(action, MultiDiscreteSpec) else [0]


class HostVector:
    """Running environments. Whatever their autoreset mode, ``step`` says what happened in the same terms.

    Args:
        vector: the environments, whose metadata tell the autoreset mode.
        spec: of one of them.
        env_id: names them in messages.
        how: how they are stepped, for the console.
        release: what ``close`` does; None closes ``vector``.

    Attributes:
        action_mask: ``[N, n]`` bool, which actions are allowed in the state that the policy sees next; None where the
            environments never said.

    Raises:
        UsageError: if the autoreset mode is not told.
    """

    def __init__(
        self,
        vector: Vector,
        spec: Spec,
        env_id: str,
        how: str = "a vector environment",
        release: Callable[[], None] | None = None,
    ) -> None:
        self.vector = vector
        self.spec = spec
        self.env_id = env_id
        self.how = how
        self._release = vector.close if release is None else release
        mode = vector.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise UsageError(
                f"{env_id} does not say its autoreset mode, which must be in metadata['autoreset_mode']; the metadata "
                f"are {vector.metadata}. Use vectorization 'sync', or set it; `rlgd check-env` finds out which it is."
            )
        self.mode = mode
        self.action_mask: Bools | None = None
        self._together, self._single = _arrays(spec.obs, (vector.num_envs,)), _arrays(spec.obs, ())
        self._mask_size = spaces.mask_size(spec.action)
        self._mask_starts = _mask_starts(spec.action)
        self._everyone = np.ones(vector.num_envs, bool)
        self._everyone.flags.writeable = False  # it is handed out
        self._begin()

    def _begin(self) -> None:
        self._resetting = ~self._everyone
        self._num_steps = 0
        self._action: NDArray[Any] | None = None

    @property
    def has_reset_rows(self) -> bool:
        """Whether some rows are resets and no transitions."""
        return self.mode is AutoresetMode.NEXT_STEP

    def reset(self, seed: int | None = None) -> Obs:
        """Begin an episode everywhere: ``obs [N, ...]``. Without a seed the environments' generators go on.

        Raises:
            EnvironmentFault: as ``step`` does.
        """
        self._begin()
        obs, info = self._ask(self.vector.reset, seed=seed)
        self._read_masks(info, self._everyone)
        return self._stored(obs)

    def step(self, action: NDArray[Any]) -> HostStep:
        """Step every environment with ``action [N, ...]``.

        Raises:
            EnvironmentFault: if an environment raises, hangs or dies; gives an observation or reward that is not finite
                or does not fit its space; or does not follow the autoreset mode that its metadata tell.
        """
        self._action = action
        obs, reward, terminated, truncated, info = self._ask(self.vector.step, action)
        reward = self._rewards(reward)
        step = self._as_step(obs, reward, np.array(terminated, bool), np.array(truncated, bool), info)
        self._num_steps += 1
        return step

    def close(self) -> None:
        """End the environments; a second call does nothing."""
        self._release()

    def _ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Broken as broken:
            raise self._fault(broken.number, broken.what) from broken.__cause__
        except Exception as error:
            raise EnvironmentFault(f"{self.env_id} raised {error!r} {self._when()}.") from error

    def _as_step(
        self, obs: Any, reward: NDArray[Any], terminated: Bools, truncated: Bools, info: dict[str, Any]
    ) -> HostStep:
        done = terminated | truncated
        if self.mode is AutoresetMode.NEXT_STEP:
            was_reset, self._resetting = self._resetting, done
            self._check_next_step(was_reset, reward, done, info)
            self._read_masks(info, self._everyone)
            return HostStep(self._stored(obs), was_reset, reward, terminated, truncated, ~was_reset, {})
        final_obs = {}
        self._read_masks(info, self._everyone)
        if np.count_nonzero(done):
            final_obs = {n: self._final(obs, info, n) for n in np.flatnonzero(done).tolist()}
            if self.mode is AutoresetMode.DISABLED:
                obs, info = self._ask(self.vector.reset, options={"reset_mask": done})
                self._read_masks(info, done)
        needed = {n: behind for n, behind in final_obs.items() if truncated[n]}
        return HostStep(self._stored(obs), done, reward, terminated, truncated, self._everyone, needed)

    def _check_next_step(self, was_reset: Bools, reward: NDArray[Any], done: Bools, info: dict[str, Any]) -> None:
        if "final_obs" in info:
            raise self._lie("gives final_obs, as SAME_STEP autoreset does,")
        number = was_reset.argmax()  # of one environment a step: who lies does so again
        if was_reset[number] and (reward[number] != 0 or done[number]):
            raise self._lie("gives a reward or an end where it has only to reset,")

    def _final(self, obs: Any, info: dict[str, Any], number: int) -> Obs:
        """The true observation of an environment whose episode ended."""
        if self.mode is AutoresetMode.DISABLED:
            if "final_obs" in info:
                raise self._lie("gives final_obs, as SAME_STEP autoreset does,")
            return self._stored(spaces.map_parts(lambda _, leaf: leaf[number], self.spec.obs, obs), number)
        final = info.get("final_obs")
        if final is None or final[number] is None:
            raise self._lie("gives no final_obs behind the end of an episode")
        return self._stored(final[number], number)

    def _lie(self, what: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"the metadata of {self.env_id} say {self.mode.name} autoreset, but it {what} {self._when()}; "
            f"`rlgd check-env {self.env_id}` shows what it really does."
        )

    def _stored(self, obs: Any, number: int | None = None) -> Obs:
        """``obs [N, ...]`` as it is kept; of one environment, if ``number`` says which, without the N in front.

        Always copied: vector environments may give out the memory that they write to next.
        """
        arrays = self._together if number is None else self._single
        if isinstance(arrays, _Array):
            return self._stored_array(number, arrays, obs)
        return spaces.map_parts(lambda _, *parts: self._stored_array(number, *parts), self.spec.obs, arrays, obs)

    def _stored_array(self, number: int | None, array: _Array, leaf: Any) -> NDArray[Any]:
        given = np.asarray(leaf)
        same = given.dtype == array.dtype and given.shape == array.shape
        values = given.copy() if same else self._converted(array, given)
        if not _finite(values):
            index = tuple(np.argwhere(~np.isfinite(values))[0])
            broken = int(index[0]) if number is None else number
            raise self._fault(broken, f"gave the {array.name} {values[index]}, which must be finite,")
        return values

    def _converted(self, array: _Array, given: NDArray[Any]) -> NDArray[Any]:
        if given.shape != array.shape or not np.can_cast(given.dtype, array.dtype, "same_kind"):
            raise EnvironmentFault(
                f"{self.env_id} gave the {array.name} as {given.dtype} in the shape {given.shape}, which must be "
                f"{array.dtype} in the shape {array.shape}, {self._when()}."
            )
        with np.errstate(over="ignore"):  # what is too large is infinite then
            return given.astype(array.dtype)

    def _rewards(self, reward: Any) -> NDArray[Any]:
        rewards = np.array(reward)
        if rewards.shape != self._everyone.shape or rewards.dtype.kind not in "fiub":
            raise EnvironmentFault(
                f"{self.env_id} gave the rewards as {rewards.dtype} in the shape {rewards.shape}, which must be "
                f"numbers in the shape {self._everyone.shape}, {self._when()}."
            )
        if not _finite(rewards):
            number = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise self._fault(number, f"gave the reward {rewards[number]}, which must be finite,")
        return rewards

    def _read_masks(self, info: dict[str, Any], of: Bools) -> None:
        """Take the action masks of the environments ``of [N]``; where one gives none, it allows everything."""
        given, size = info.get("action_mask"), self._mask_size
        if size is None or (given is None and self.action_mask is None):
            return
        masks = np.ones((len(of), size), bool) if self.action_mask is None else self.action_mask.copy()
        masks[of] = True
        if given is not None:
            has = of & np.asarray(info.get("_action_mask", self._everyone))
            masks[has] = self._mask_rows(given, has, size)
        masks[self._resetting] = True  # the next action is ignored
        empty = ~np.logical_or.reduceat(masks, self._mask_starts, axis=1).all(axis=1)
        if empty.any():
            raise self._fault(int(np.flatnonzero(empty)[0]), "gave an action mask that allows no action")
        self.action_mask = masks

    def _mask_rows(self, given: Any, has: Bools, size: int) -> Bools:
        if isinstance(given, tuple):  # one array ``[N, n]`` for each number of a MultiDiscrete action
            given = np.concatenate([np.asarray(part) for part in given], axis=1)
        rows = [flat_mask(given[number]) for number in np.flatnonzero(has).tolist()]
        wrong = next((row for row in rows if row.shape != (size,)), None)
        if wrong is not None:
            raise EnvironmentFault(
                f"{self.env_id} gave an action mask of {wrong.size} entries {self._when()}; it has {size} actions."
            )
        return np.array(rows, bool).reshape(-1, size)

    def _fault(self, number: int, what: str) -> EnvironmentFault:
        action = "" if self._action is None else f"; its last action was {_in_short(self._action[number])}"
        return EnvironmentFault(f"{self.env_id}: environment {number} {what} {self._when()}{action}.")

    def _when(self) -> str:
        return "in the reset" if self._action is None else f"in step {self._num_steps} since the reset"


def _finite(values: NDArray[Any]) -> bool:
    # The sum is one number to look at; that of finite numbers may overflow.
    return values.dtype.kind != "f" or math.isfinite(np.add.reduce(values.ravel())) or bool(np.isfinite(values).all())


def _in_short(action: Any) -> str:
    return np.array2string(np.asarray(action), precision=4, threshold=8, separator=", ")
