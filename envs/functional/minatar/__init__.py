"""The five games of MinAtar as pure functions of JAX (Young & Tian 2019, arXiv 1903.03176).

Worker processes import this package: it imports no JAX until a name is used.
"""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.envs.functional.minatar.asterix import Asterix as Asterix
    from rlgd.envs.functional.minatar.breakout import Breakout as Breakout
    from rlgd.envs.functional.minatar.freeway import Freeway as Freeway
    from rlgd.envs.functional.minatar.game import MinAtarParams as MinAtarParams
    from rlgd.envs.functional.minatar.seaquest import Seaquest as Seaquest
    from rlgd.envs.functional.minatar.space_invaders import SpaceInvaders as SpaceInvaders

# The name of a game, as in the package ``minatar``: its class.
GAMES = {
    "Asterix-v1": "rlgd.envs.functional.minatar.asterix:Asterix",
    "Breakout-v1": "rlgd.envs.functional.minatar.breakout:Breakout",
    "Freeway-v1": "rlgd.envs.functional.minatar.freeway:Freeway",
    "Seaquest-v1": "rlgd.envs.functional.minatar.seaquest:Seaquest",
    "SpaceInvaders-v1": "rlgd.envs.functional.minatar.space_invaders:SpaceInvaders",
}

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.envs.functional.minatar.asterix": ("Asterix",),
        "rlgd.envs.functional.minatar.breakout": ("Breakout",),
        "rlgd.envs.functional.minatar.freeway": ("Freeway",),
        "rlgd.envs.functional.minatar.game": ("MinAtarParams",),
        "rlgd.envs.functional.minatar.seaquest": ("Seaquest",),
        "rlgd.envs.functional.minatar.space_invaders": ("SpaceInvaders",),
    },
)
