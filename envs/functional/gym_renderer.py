"""Pictures of a twin, drawn by Gymnasium's own renderer from the twin's state."""

from typing import Any, ClassVar, TypeAlias, TypeVar

import gymnasium
import jax
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from jax import Array
from numpy.typing import NDArray

State = TypeVar("State")
Obs = TypeVar("Obs")
Params = TypeVar("Params")
Renderer: TypeAlias = gymnasium.Env[Any, Any]


class Rendered(FuncEnv[State, Obs, Array, Array, Array, Renderer, Params]):
    """The twin of Gymnasium's ``env_id``. ``params`` change the physics, not the pictures."""

    env_id: ClassVar[str]
    default_params: Params

    @property
    def metadata(self) -> dict[str, Any]:
        """Gymnasium's metadata, with ``render_fps``."""
        return gymnasium.make(self.env_id, disable_env_checker=True).metadata

    def show(self, state: Any, env: Any) -> None:
        """Put ``state``, with Python numbers and lists for its arrays, into Gymnasium's environment."""
        raise NotImplementedError

    def render_init(self, params: Params | None = None, **kwargs: Any) -> Renderer:
        """Gymnasium's environment, which draws the pictures; made with ``kwargs``."""
        return gymnasium.make(self.env_id, render_mode="rgb_array", disable_env_checker=True, **kwargs).unwrapped

    def render_image(
        self, state: State, render_state: Renderer, params: Params | None = None
    ) -> tuple[Renderer, NDArray[np.uint8]]:
        """The picture of one environment's state, ``[height, width, 3]`` uint8."""
        self.show(jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), state), render_state)
        return render_state, np.asarray(render_state.render())

    def render_close(self, render_state: Renderer, params: Params | None = None) -> None:
        render_state.close()
