"""Action spaces of every kind that is supported."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

MATRIX = Box(np.arange(6.0).reshape(2, 3) - 9, np.arange(6.0).reshape(2, 3) + 1, dtype=np.float32)
ACTIONS: dict[str, gymnasium.Space[Any]] = {
    "discrete": Discrete(3),
    "from_minus_1": Discrete(3, start=-1),
    "box": Box(-2.0, 2.0, (1,)),
    "matrix": MATRIX,
    "float64": Box(0.1, 0.3, (2,), np.float64),
    "half_bounded": Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 1.0], np.float32)),
    "integers": Box(-3, 5, (2,), np.int32),
    "number": Box(-1.0, 1.0, ()),
    "several": MultiDiscrete([2, 5, 3], start=[0, -2, 7]),
    "several_in_a_matrix": MultiDiscrete(np.array([[2, 5], [3, 1]])),
    "bits": MultiBinary(4),
    "bits_in_a_matrix": MultiBinary([2, 3]),
    "one": Discrete(1),
}
