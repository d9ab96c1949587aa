"""Environments on the host of a run on several devices: each process steps its share, all learn from all rows."""

import dataclasses
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rlgd.agents.base.agent import Agent
from rlgd.envs.host.host_vector import HostVector
from rlgd.pytrees import LoopState, Rollout
from rlgd.system.mesh import AXIS, here
from rlgd.system.processes import largest
from rlgd.training.host_rollout import begin_episodes, collect_on_host
from rlgd.training.loop import ROLLOUT, iteration_key

T = TypeVar("T")


class Share(NamedTuple):
    """The environments that this process steps.

    Attributes:
        first, number: the number of the first one among those of all processes, and how many there are.
        mesh: the devices that learn from the rows of all; None for one device.
    """

    first: int
    number: int
    mesh: Mesh | None

    def begin_episodes(self, agent: Agent, vector: HostVector, loop: LoopState, entropy: tuple[int, ...]) -> LoopState:
        """New episodes in every environment, with seeds as if one process stepped all of them."""
        begun = begin_episodes(self._agent(agent), vector, loop, entropy, self.first)
        return self._joined(loop, begun)

    def collect(
        self, agent: Agent, vector: HostVector, loop: LoopState, device: jax.Device | None
    ) -> tuple[Rollout, LoopState]:
        """The rows of one iteration, see ``collect_on_host``; every process must call it."""
        own = loop if self.mesh is None else here(loop)
        key = iteration_key(own, ROLLOUT)
        if self.first:  # otherwise all processes would act with the same random numbers
            key = jax.random.fold_in(key, self.first)
        rollout, after = collect_on_host(self._agent(agent), vector, own, key, device)
        if self.mesh is None:
            return rollout, after
        return self._whole_rollout(rollout), self._joined(loop, after)

    def _agent(self, agent: Agent) -> Agent:
        return dataclasses.replace(agent, num_envs=self.number)

    def _joined(self, loop: LoopState, own: LoopState) -> LoopState:
        """``loop`` with what ``own`` knows of the environments of this process."""
        if self.mesh is None:
            return own
        obs, first, memory, episodes = self._whole((own.obs, own.first, own.memory, own.episodes), 0)
        return dataclasses.replace(loop, obs=obs, first=first, memory=memory, episodes=episodes)

    def _whole_rollout(self, rollout: Rollout) -> Rollout:
        room = largest(jax.tree.leaves(rollout.final_obs)[0].shape[0])

        def padded(x: np.ndarray) -> np.ndarray:
            return np.concatenate([x, np.zeros((room - x.shape[0], *x.shape[1:]), x.dtype)])

        rollout = dataclasses.replace(rollout, final_obs=jax.tree.map(padded, rollout.final_obs))
        of_envs = {name: getattr(rollout, name) for name in ("last_obs", "first", "memory")}
        rows = {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}
        by_row = {name: value for name, value in rows.items() if name not in of_envs}
        return Rollout(**self._whole(by_row, 1), **self._whole(of_envs, 0))

    def _whole(self, own: T, axis: int) -> T:
        """The arrays of all processes, each row on the device of its environment; ``axis`` is that of environments."""
        mesh = self.mesh
        assert mesh is not None
        where = NamedSharding(mesh, PartitionSpec(*(None,) * axis, AXIS))

        def join(x: Any) -> jax.Array:
            x = np.asarray(x)
            shape = (*x.shape[:axis], x.shape[axis] * jax.process_count(), *x.shape[axis + 1 :])
            return jax.make_array_from_process_local_data(where, x, shape)

        whole: T = jax.tree.map(join, own)
        return whole


def share_of(num_envs: int, mesh: Mesh | None) -> Share:
    """The share of this process."""
    number = num_envs // jax.process_count()
    return Share(number * jax.process_index(), number, mesh)
