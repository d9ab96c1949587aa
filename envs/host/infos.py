"""Numbers in the infos of environments on the host: whether an episode was a success, and what is asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlgd.envs.aliases import LIVES, SUCCESS, SUCCESSES, Bools, Info
from rlgd.envs.host.checked import Broken
from rlgd.envs.host.host_step import HostStep


class Infos:
    """Sums over the steps of an iteration.

    Args:
        asked: names of numbers in the infos.
        num_envs: N.
    """

    def __init__(self, asked: Sequence[str], num_envs: int) -> None:
        self._asked, self._num_envs = tuple(asked), num_envs
        self._gives_success = False
        self._clear()

    def _clear(self) -> None:
        self._successes = 0
        self._sums, self._counts = dict.fromkeys(self._asked, 0.0), dict.fromkeys(self._asked, 0)

    def read(self, info: Info, done: Bools, same_step: bool) -> dict[str, NDArray[Any]]:
        """The numbers of a step by their names, ``[N]``, NaN where an environment gave none.

        Args:
            info: as the vector environment gave it.
            done: ``[N]`` bool, where an episode ended.
            same_step: whether the infos of those are in ``final_info``, as with SAME_STEP autoreset.

        Raises:
            Broken: if something that is asked for is not a number for each environment.
        """
        found = {}
        for name in dict.fromkeys((SUCCESS, LIVES, *self._asked)):
            numbers = self.numbers(info, name)
            final = self.numbers(info.get("final_info") or {}, name) if same_step and done.any() else None
            if final is not None or (numbers is not None and same_step):
                numbers = np.where(done, np.nan if final is None else final, np.nan if numbers is None else numbers)
            if numbers is not None:
                found[name] = numbers
        return found

    def numbers(self, info: Info, name: str) -> NDArray[Any] | None:
        """One number of an info, ``[N]``, NaN where an environment gave none; None if none gave it."""
        if (given := info.get(name)) is None:
            return None
        values = np.asarray(given)
        if values.shape != (self._num_envs,) or values.dtype.kind not in "fiub":
            if name not in self._asked:
                return None
            raise Broken(None, f"gave the info {name!r} as {values.dtype} in the shape {values.shape}, not as numbers,")
        return np.where(info.get(f"_{name}", True), values.astype(np.float64), np.nan)

    def add(self, step: HostStep) -> None:
        """Add a step; rows that are not transitions do not count."""
        for name, numbers in step.info.items():
            given = step.valid & ~np.isnan(numbers)
            if name == SUCCESS:
                ended = given & (step.terminated | step.truncated)
                self._gives_success |= bool(given.any())
                self._successes += int(np.count_nonzero(numbers[ended]))
            if name in self._asked:
                self._sums[name] += float(numbers[given].sum())
                self._counts[name] += int(np.count_nonzero(given))

    def take(self) -> dict[str, NDArray[Any]]:
        """The metrics of the iteration: the mean of each number that is asked for, and how many episodes succeeded.

        The mean is NaN where no environment gave the number. Successes are absent before an environment first says
        whether there is one.
        """
        means = {name: total / count if (count := self._counts[name]) else np.nan for name, total in self._sums.items()}
        metrics = {f"info/{name}": np.float32(mean) for name, mean in means.items()}
        if self._gives_success:
            metrics[SUCCESSES] = np.float32(self._successes)
        self._clear()
        return {name: np.asarray(value) for name, value in metrics.items()}
