"""What Gymnasium's MuJoCo environments compute around their physics, for several of them at once.

The formulas are those of ``gymnasium.envs.mujoco``, version 5, and so are all numbers: they are read from environments
that Gymnasium has made. This module imports no JAX.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlgd.envs.aliases import Bools

Numbers = NDArray[np.float64]


class Stepped(NamedTuple):
    """What a step of N environments gives: ``[N, ...]`` each, infos by name."""

    obs: Numbers
    reward: NDArray[Any]
    terminated: Bools
    info: dict[str, NDArray[Any]]


class Task(abc.ABC):
    """One kind of environment, several of which are stepped together.

    ``before`` is called before the physics, and what it returned is given to ``after``.

    Args:
        envs: of Gymnasium, unwrapped; all made with the same arguments.
    """

    def __init__(self, envs: Sequence[Any]) -> None:
        self.env: Any = envs[0]
        self._envs = envs
        self._views: dict[str, list[NDArray[Any]]] = {}

    def read(self, name: str, of: Callable[[Any], NDArray[Any]] | None = None) -> Numbers:
        """A part of MuJoCo's data, ``[N, ...]``; ``of`` finds it, by default the data's attribute with this name."""
        if name not in self._views:
            # They stay valid as long as the data live: MuJoCo writes into the same memory.
            self._views[name] = [getattr(env.data, name) if of is None else of(env) for env in self._envs]
        views = self._views[name]
        return np.concatenate(views).reshape(len(views), *views[0].shape)

    def before(self) -> Any:
        """What is needed of the state before the physics."""
        return None

    @abc.abstractmethod
    def after(self, before: Any, action: NDArray[Any]) -> Stepped:
        """What the environments give after the physics; ``action [N, d]`` is what drove them."""


class InvertedPendulum(Task):
    """``InvertedPendulum-v5``."""

    def after(self, before: Any, action: NDArray[Any]) -> Stepped:
        obs = np.concatenate([self.read("qpos"), self.read("qvel")], axis=1)
        terminated = ~np.isfinite(obs).all(axis=1) | (np.abs(obs[:, 1]) > 0.2)
        reward = (~terminated).astype(np.int64)
        return Stepped(obs, reward, terminated, {"reward_survive": reward})


class Runner(Task):
    """What moves forward is rewarded, forces are not: ``HalfCheetah-v5``, and the base of the others."""

    excluded = 1  # positions that the observation leaves out, unless it is told not to

    def before(self) -> Numbers:
        return self.place()

    def place(self) -> Numbers:
        """Where it is, ``[N]`` or ``[N, 2]``."""
        return self.read("qpos")[:, 0]

    def after(self, before: Any, action: NDArray[Any]) -> Stepped:
        env, qpos = self.env, self.read("qpos")
        place = self.place()
        velocity = (place - before) / env.dt
        along = velocity if velocity.ndim == 1 else velocity[:, 0]
        forward = env._forward_reward_weight * along
        costs = {"reward_ctrl": env._ctrl_cost_weight * self.squared_control(action)} | self.other_costs()
        gains, terminated = {"reward_forward": forward}, np.zeros(len(qpos), bool)
        healthy = self.healthy(qpos)
        if healthy is not None:
            gains["reward_survive"] = healthy * env._healthy_reward
            terminated = ~healthy & env._terminate_when_unhealthy
        reward = sum(gains.values()) - sum(costs.values())
        info = self.places(qpos) | {"x_velocity": along} | gains | {name: -cost for name, cost in costs.items()}
        if velocity.ndim == 2:
            info["y_velocity"] = velocity[:, 1]
        kept = qpos[:, self.excluded :] if env._exclude_current_positions_from_observation else qpos
        return Stepped(self.observed(kept), reward, terminated, info)

    def squared_control(self, action: NDArray[Any]) -> NDArray[Any]:
        """The squared length of what drives it, ``[N]``."""
        return np.sum(np.square(action), axis=1)

    def other_costs(self) -> dict[str, NDArray[Any]]:
        """By their names in the infos."""
        return {}

    def healthy(self, qpos: Numbers) -> Bools | None:
        """Whether each goes on; None: they always do."""
        return None

    def places(self, qpos: Numbers) -> dict[str, NDArray[Any]]:
        """The infos of where it is."""
        return {"x_position": qpos[:, 0]}

    def observed(self, kept: Numbers) -> Numbers:
        """The observation, given the positions in it."""
        return np.concatenate([kept, self.read("qvel")], axis=1)


class Walker(Runner):
    """``Walker2d-v5``: it must not fall."""

    def healthy(self, qpos: Numbers) -> Bools:
        return _within(self.env._healthy_z_range, qpos[:, 1]) & _within(self.env._healthy_angle_range, qpos[:, 2])

    def places(self, qpos: Numbers) -> dict[str, NDArray[Any]]:
        return super().places(qpos) | {"z_distance_from_origin": qpos[:, 1] - self.env.init_qpos[1]}

    def observed(self, kept: Numbers) -> Numbers:
        return np.concatenate([kept, np.clip(self.read("qvel"), -10, 10)], axis=1)


class Hopper(Walker):
    """``Hopper-v5``: nor may any number of its state become large."""

    def healthy(self, qpos: Numbers) -> Bools:
        state = np.concatenate([qpos, self.read("qvel")], axis=1)[:, 2:]
        return super().healthy(qpos) & _within(self.env._healthy_state_range, state).all(axis=1)


class _InSpace(Runner):
    """What moves in all directions, and touches the ground."""

    excluded = 2

    def places(self, qpos: Numbers) -> dict[str, NDArray[Any]]:
        # As the norm of one vector is computed. That along an axis rounds otherwise where a processor fuses a product
        # with a sum.
        distance = np.sqrt(np.vecdot(qpos[:, :2], qpos[:, :2]))
        return {"x_position": qpos[:, 0], "y_position": qpos[:, 1], "distance_from_origin": distance}


class Ant(_InSpace):
    """``Ant-v5``."""

    def place(self) -> Numbers:
        return self.read("xpos", lambda env: env.data.body(env._main_body).xpos)[:, :2]

    def healthy(self, qpos: Numbers) -> Bools:
        low, high = self.env._healthy_z_range
        finite = np.isfinite(qpos).all(axis=1) & np.isfinite(self.read("qvel")).all(axis=1)
        return finite & (low <= qpos[:, 2]) & (qpos[:, 2] <= high)

    def forces(self) -> Numbers:
        """On each body, ``[N, bodies, 6]``."""
        return np.clip(self.read("cfrc_ext"), *self.env._contact_force_range)

    def other_costs(self) -> dict[str, NDArray[Any]]:
        squared = np.sum(np.square(self.forces()).reshape(len(self._envs), -1), axis=1)
        return {"reward_contact": self.env._contact_cost_weight * squared}

    def observed(self, kept: Numbers) -> Numbers:
        parts = [kept, self.read("qvel")]
        if self.env._include_cfrc_ext_in_observation:
            parts.append(self.forces()[:, 1:].reshape(len(kept), -1))
        return np.concatenate(parts, axis=1)


class Humanoid(_InSpace):
    """``Humanoid-v5``."""

    def place(self) -> Numbers:
        mass = self.env.model.body_mass
        return (np.einsum("b,nbj->nj", mass, self.read("xipos")) / mass.sum())[:, :2]

    def squared_control(self, action: NDArray[Any]) -> NDArray[Any]:
        return np.sum(np.square(self.read("ctrl")), axis=1)

    def other_costs(self) -> dict[str, NDArray[Any]]:
        squared = np.sum(np.square(self.read("cfrc_ext")).reshape(len(self._envs), -1), axis=1)
        return {"reward_contact": np.clip(self.env._contact_cost_weight * squared, *self.env._contact_cost_range)}

    def healthy(self, qpos: Numbers) -> Bools:
        return _within(self.env._healthy_z_range, qpos[:, 2])

    def places(self, qpos: Numbers) -> dict[str, NDArray[Any]]:
        tendons = {"tendon_length": self.read("ten_length"), "tendon_velocity": self.read("ten_velocity")}
        return super().places(qpos) | tendons

    def observed(self, kept: Numbers) -> Numbers:
        env, parts = self.env, [kept, self.read("qvel")]
        for name, first, given in (
            ("cinert", 1, env._include_cinert_in_observation),
            ("cvel", 1, env._include_cvel_in_observation),
            ("qfrc_actuator", 6, env._include_qfrc_actuator_in_observation),
            ("cfrc_ext", 1, env._include_cfrc_ext_in_observation),
        ):
            if given:
                parts.append(self.read(name)[:, first:].reshape(len(kept), -1))
        return np.concatenate(parts, axis=1)


def _within(bounds: tuple[float, float], x: Numbers) -> Bools:
    return (bounds[0] < x) & (x < bounds[1])


TASKS: dict[str, type[Task]] = {
    "Ant-v5": Ant,
    "HalfCheetah-v5": Runner,
    "Hopper-v5": Hopper,
    "Humanoid-v5": Humanoid,
    "InvertedPendulum-v5": InvertedPendulum,
    "Walker2d-v5": Walker,
}
