"""Where the training state lies on several devices: what belongs to an environment is divided, the rest is copied."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv
from rlgd.errors import UsageError
from rlgd.pytrees import LoopState
from rlgd.spaces import Spec
from rlgd.system.mesh import AXIS
from rlgd.training.loop import initialize, initialize_on_host


def check_divides(agent: Agent, devices: int, shuffle: str) -> None:
    """Refuse environments that cannot be divided over the devices, and rows that each device cannot shuffle for itself.

    Raises:
        UsageError: what was given, what is allowed; naming the nearest numbers of environments that can be divided.
    """
    num_envs = agent.num_envs
    if num_envs % devices:
        less, more = num_envs // devices * devices, -(-num_envs // devices) * devices
        nearest = f"{less} or {more}" if less else f"{more}"
        raise UsageError(f"num_envs is {num_envs}, which {devices} devices do not divide; nearest that do: {nearest}.")
    climbers = agent.ascent.outer.climbers  # None: as many as there will be devices
    if climbers is not None and climbers % devices:
        raise UsageError(f"climbers is {climbers}, which {devices} devices do not divide.")
    if shuffle == "local" and agent.climbers is None:
        try:
            dataclasses.replace(agent, num_envs=num_envs // devices).validate()
        except UsageError as error:
            raise UsageError(
                f"shuffle is 'local', so each of {devices} devices has rows of its own: {error}"
            ) from error


def shardings(agent: Agent, env: DeviceEnv | Spec, mesh: Mesh) -> LoopState:
    """Where each array of the state lies; of environments on the host the spec is enough.

    An array is divided if its leading axis is the environments, or groups of them: if it grows with their number.
    """

    def shapes(num_envs: int) -> LoopState:
        same = dataclasses.replace(agent, num_envs=num_envs)
        if agent.climbers is not None:
            outer = dataclasses.replace(agent.ascent.outer, climbers=agent.climbers * num_envs // agent.num_envs)
            same = dataclasses.replace(same, ascent=dataclasses.replace(agent.ascent, outer=outer))

        def begin(key: Array) -> LoopState:
            return initialize(same, env, key) if isinstance(env, DeviceEnv) else initialize_on_host(same, env, key)

        state: LoopState = jax.eval_shape(begin, jax.random.key(0))
        return state

    def sharding(one: jax.ShapeDtypeStruct, other: jax.ShapeDtypeStruct) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(AXIS) if one.shape != other.shape else PartitionSpec())

    divided: LoopState = jax.tree.map(sharding, shapes(agent.num_envs), shapes(2 * agent.num_envs))
    return divided


def placed(loop: LoopState, where: LoopState) -> LoopState:
    """The state with each array where ``shardings`` says; arrays that lie there already are not touched.

    With several processes each has the whole state before it is placed.
    """

    def put(x: Any, sharding: NamedSharding) -> Any:
        if isinstance(x, Array) and x.sharding.is_equivalent_to(sharding, x.ndim):
            return x
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
        whole = np.asarray(x)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    state: LoopState = jax.tree.map(put, loop, where)
    return state
