"""What a step of N environments on the host returns, whatever their autoreset mode."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from rlgd.envs.aliases import Bools
from rlgd.pytrees import Obs


class HostStep(NamedTuple):
    """One step of N environments.

    Attributes:
        obs: ``[N, ...]``, what the policy sees next; a dictionary or tuple of arrays where the space is one.
        first: ``[N]`` bool, whether ``obs`` begins an episode.
        reward: ``[N]``.
        terminated, truncated: ``[N]`` bool.
        valid: ``[N]`` bool, False where the step was not a transition but a reset (NEXT_STEP autoreset).
        final_obs: the true observation after each truncation, by environment number; empty where ``obs`` is the true
            one.
        info: numbers of the infos by their names, ``[N]``, NaN where an environment gave none; see ``Infos``.
        life_lost: ``[N]`` bool, where a life was lost; None if the infos have no number ``lives``.
    """

    obs: Obs
    first: Bools
    reward: NDArray[Any]
    terminated: Bools
    truncated: Bools
    valid: Bools
    final_obs: dict[int, Obs]
    info: Mapping[str, NDArray[Any]] = MappingProxyType({})
    life_lost: Bools | None = None

    def only(self, real: Bools) -> "HostStep":
        """The step with the environments outside ``real [N]`` masked."""
        return self._replace(
            valid=self.valid & real, terminated=self.terminated & real, truncated=self.truncated & real
        )
