"""Types and names that several modules of this wing share. Worker processes import this module: it imports no JAX."""

from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

GymEnv: TypeAlias = gymnasium.Env[Any, Any]
GymVector: TypeAlias = VectorEnv[Any, Any, Any]
Functional: TypeAlias = FuncEnv[Any, Any, Any, Any, Any, Any, Any]
Space: TypeAlias = gymnasium.Space[Any]
Bools: TypeAlias = NDArray[np.bool_]
Info: TypeAlias = dict[str, Any]

NAMESPACE = "rlgd"  # of the ids that rlgd registers with Gymnasium
SUCCESS = "is_success"  # of an info: whether the episode that ends was a success
LIVES = "lives"  # of an info: how many are left in the episode
SUCCESSES = "rollout/successes"  # the metric: how many of the episodes that ended were
