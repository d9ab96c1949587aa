"""The action masks of environments on the host, read from Gymnasium's ``info["action_mask"]``."""

from typing import Any

import numpy as np

from rlgd import spaces
from rlgd.envs.aliases import Bools, Info
from rlgd.envs.host.checked import Broken, flat_mask
from rlgd.spaces import MultiDiscreteSpec, ObsSpec


class ActionMasks:
    """Which actions are allowed in N environments.

    Attributes:
        current: ``[N, n]`` bool; None until an environment gives a mask.
    """

    def __init__(self, action: ObsSpec) -> None:
        self.current: Bools | None = None
        self._size = spaces.mask_size(action)
        # Where in a mask the values of each number begin.
        self._starts = [0, *np.cumsum(action.nvec)[:-1].tolist()] if isinstance(action, MultiDiscreteSpec) else [0]

    def read(self, info: Info, which: Bools, ignored: Bools) -> None:
        """Take the masks of the environments in ``which [N]``; an environment that gives none allows every action.

        Args:
            info: as the vector environment gave it.
            which: bool.
            ignored: ``[N]`` bool, where the next action is ignored, and any is allowed.

        Raises:
            Broken: if a mask has a wrong size or allows no action.
        """
        given, size = info.get("action_mask"), self._size
        if size is None or (given is None and self.current is None):
            return
        masks = np.ones((len(which), size), bool) if self.current is None else self.current.copy()
        masks[which] = True
        if given is not None:
            has = which & np.asarray(info.get("_action_mask", True))
            masks[has] = _rows(given, has, size)
        masks[ignored] = True
        empty = ~np.logical_or.reduceat(masks, self._starts, axis=1).all(axis=1)
        if empty.any():
            raise Broken(int(np.flatnonzero(empty)[0]), "gave an action mask that allows no action")
        self.current = masks


def _rows(given: Any, has: Bools, size: int) -> Bools:
    """The masks of the environments in ``has [N]``, one row each."""
    if isinstance(given, tuple):  # one array ``[N, n]`` for each number of a MultiDiscrete action
        given = np.concatenate([np.asarray(part) for part in given], axis=1)
    rows = [flat_mask(given[number]) for number in np.flatnonzero(has).tolist()]
    wrong = next((row for row in rows if row.shape != (size,)), None)
    if wrong is not None:
        raise Broken(None, f"gave an action mask of {wrong.size} entries, which must have {size},")
    return np.array(rows, bool).reshape(-1, size)
