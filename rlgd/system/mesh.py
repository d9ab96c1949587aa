"""The devices that train one program together: a mesh of one axis, over which environments and rows are divided.

XLA divides the program itself: it means what it means on one device, random numbers included.
"""

import contextlib
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from rlgd.errors import UsageError
from rlgd.system.processes import are_several

T = TypeVar("T")
AXIS = "data"
# An axis of one place: by it a traced program knows that each device shuffles its own rows.
OWN_ROWS = "own_rows"
SHUFFLES = ("global", "local")


def make_mesh(devices: int, shuffle: str = "global") -> Mesh | None:
    """The first ``devices`` devices, with several processes all of them; None for a single one.

    With ``shuffle`` "local" each device shuffles its own rows, see ``rlgd.maths.minibatches``.

    Raises:
        UsageError: if there are fewer, or several processes and not as many devices.
    """
    found = jax.devices()
    if are_several():
        if devices not in (1, len(found)):
            raise UsageError(f"devices is {devices}, but the processes have {len(found)}, of which all train.")
        devices = len(found)
    if devices > len(found):
        hint = f"; JAX_NUM_CPU_DEVICES={devices} divides a CPU" if found[0].platform == "cpu" else ""
        there = f"{len(found)} {found[0].platform} device{'s' if len(found) > 1 else ''}"
        raise UsageError(f"devices is {devices}, but JAX finds {there}{hint}.")
    if devices == 1:
        return None
    axes = {AXIS: devices} | ({OWN_ROWS: 1} if shuffle == "local" else {})
    types = (AxisType.Auto,) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), devices=found[:devices], axis_types=types)


def active(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """Where programs for the devices of a mesh are called."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def undivided() -> contextlib.AbstractContextManager[Any]:
    """Where a traced program does not know of its devices: what each of them does alone."""
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ()))


def num_devices() -> int:
    """How many devices the program that is traced has."""
    return jax.sharding.get_abstract_mesh().shape.get(AXIS, 1)


def num_shuffles() -> int:
    """Into how many parts the traced program divides rows to shuffle them: one, or one for each device."""
    return num_devices() if OWN_ROWS in jax.sharding.get_abstract_mesh().shape else 1


def divided(rows: T) -> T:
    """Arrays whose leading axis is divided over the devices of the traced program, where it can be."""
    devices = num_devices()
    if devices == 1:
        return rows

    def divide(x: jax.Array) -> jax.Array:
        return x if x.shape[0] % devices else jax.lax.with_sharding_constraint(x, PartitionSpec(AXIS))

    return jax.tree.map(divide, rows)


def everywhere(x: Array) -> Array:
    """An array as each device of the traced program has it whole."""
    return x if num_devices() == 1 else jax.lax.with_sharding_constraint(x, PartitionSpec())


def together(tree: T) -> T:
    """Arrays of several devices on one of them, of which each process has one; those of one device as they are.

    With several processes every one must call it.
    """

    def gather(x: Any) -> Any:
        devices = sorted(x.sharding.device_set, key=lambda device: device.id)
        return x if len(devices) == 1 else jax.device_put(x, SingleDeviceSharding(devices[0]))

    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return jax.tree.map(gather, tree)
    everywhere = jax.tree.map(lambda x: NamedSharding(x.sharding.mesh, PartitionSpec()), tree)
    copied = jax.jit(_as_numbers, out_shardings=everywhere)(tree)
    return jax.tree.map(_first_copy, copied, tree)


def here(tree: T) -> T:
    """The part of arrays of several devices that this process has: the rows of its devices, or its copy of a whole."""

    def own(x: Any) -> Any:
        if not isinstance(x, Array) or len(x.sharding.device_set) == 1:
            return x
        if x.is_fully_replicated:
            return _first_copy(jax.random.key_data(x) if _is_key(x) else x, x)
        parts = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.concatenate([np.asarray(part.data) for part in parts])

    return jax.tree.map(own, tree)


def _as_numbers(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _first_copy(copied: jax.Array, like: jax.Array) -> jax.Array:
    here = copied.addressable_data(0)
    return jax.random.wrap_key_data(here, impl=jax.random.key_impl(like)) if _is_key(like) else here


def _is_key(x: jax.Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))
