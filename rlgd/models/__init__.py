"""From observations to distributions: features, networks, action heads."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.models.action_heads import BOX_DISTRIBUTIONS as BOX_DISTRIBUTIONS
    from rlgd.models.action_heads import BOX_STDS as BOX_STDS
    from rlgd.models.action_heads import ActionHead as ActionHead
    from rlgd.models.action_heads import action_head as action_head
    from rlgd.models.attention import Attention as Attention
    from rlgd.models.checks import check as check
    from rlgd.models.convolutions import convolve as convolve
    from rlgd.models.features import encode as encode
    from rlgd.models.features import images as images
    from rlgd.models.features import num_features as num_features
    from rlgd.models.initializers import INITIALIZATIONS as INITIALIZATIONS
    from rlgd.models.networks import Network as Network
    from rlgd.models.networks import network as network
    from rlgd.models.own import Torso as Torso
    from rlgd.models.products import dot_general as dot_general
    from rlgd.models.recurrent import CELLS as CELLS
    from rlgd.models.recurrent import Recurrence as Recurrence
    from rlgd.models.torsos import ACTIVATIONS as ACTIVATIONS
    from rlgd.models.torsos import NETWORKS as NETWORKS
    from rlgd.models.torsos import NetworkOutput as NetworkOutput

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.models.action_heads": (
            "BOX_DISTRIBUTIONS",
            "BOX_STDS",
            "ActionHead",
            "action_head",
        ),
        "rlgd.models.attention": ("Attention",),
        "rlgd.models.checks": ("check",),
        "rlgd.models.convolutions": ("convolve",),
        "rlgd.models.features": (
            "encode",
            "images",
            "num_features",
        ),
        "rlgd.models.initializers": ("INITIALIZATIONS",),
        "rlgd.models.networks": (
            "Network",
            "network",
        ),
        "rlgd.models.own": ("Torso",),
        "rlgd.models.products": ("dot_general",),
        "rlgd.models.recurrent": (
            "CELLS",
            "Recurrence",
        ),
        "rlgd.models.torsos": (
            "ACTIVATIONS",
            "NETWORKS",
            "NetworkOutput",
        ),
    },
)
