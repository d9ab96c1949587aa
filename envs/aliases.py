"""Types that several modules of this wing name. Worker processes import this module: it imports no JAX."""

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
