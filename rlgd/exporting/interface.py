"""What an exported policy reads and returns: arrays by name, whatever the spaces are."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import spaces
from rlgd.agents.base.memory import Memory
from rlgd.errors import UsageError
from rlgd.evaluation.policy import Policy
from rlgd.maths.distributions import Distribution, Joint
from rlgd.pytrees import View, named_leaves, with_leaves
from rlgd.spaces import LeafSpec, ObsSpec

MASK, FIRST, MEMORY, NEXT_MEMORY = "action_mask", "first", "memory", "next_memory"
# What says a distribution; its other fields are constants.
PARAMETERS = ("logits", "mean", "log_std", "alpha", "beta")


@dataclasses.dataclass(frozen=True)
class Port:
    """An array that goes in or comes out.

    Attributes:
        name: of the array, such as ``obs`` or ``obs.camera``.
        shape: without the batch, which is the first axis.
        dtype: as the environment has it.
        about: what it is.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    about: str


class Interface:
    """A policy as a function of named arrays: the greedy action, and what the policy says of all actions.

    Args:
        policy: what is exported.
        action_mask: whether it reads which actions are allowed.

    Attributes:
        inputs: what it reads: the raw observation, and where there are such, the mask and the memory.
        outputs: what it returns: the action as the environment receives it, the parameters of the distribution, and
            where there is one, the new memory.

    Raises:
        UsageError: if there is to be a mask for actions that have none.
    """

    def __init__(self, policy: Policy, action_mask: bool = False) -> None:
        spec = self.spec = policy.spec
        # Few runtimes compute in bfloat16: all compute in 32 bits, in which the parameters are.
        agent = dataclasses.replace(policy.agent, compute_dtype="float32").prepared()
        self.actor, self._networks = policy.actor, agent.networks(spec)
        size = spaces.mask_size(spec.action)
        if action_mask and size is None:
            raise UsageError("these actions have no masks: they are neither Discrete nor MultiDiscrete.")
        self.inputs = _ports("obs", spec.obs, "the observation, as the environment gives it")
        if action_mask:
            assert size is not None
            self.inputs.append(Port(MASK, (size,), "bool", "which actions are allowed"))
        memory = self._networks.policy.memory_size
        if memory is not None:
            self.inputs += [
                Port(FIRST, (), "bool", "whether an episode begins here: then the memory is not read"),
                Port(MEMORY, (memory,), "float32", "what the step before returned as next_memory; zeros at first"),
            ]
        self.outputs = _ports("action", spec.action, "the most probable action, as the environment receives it")
        for name, array in self._shapes()[1].items():
            about = "of the distribution of actions" if name != NEXT_MEMORY else "the memory of the next step"
            self.outputs.append(Port(name, array.shape[1:], array.dtype.name, about))

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs for the inputs, each ``[N, ...]``, by name. JAX can trace it; numbers are of 32 bits."""
        actions, others = self._outputs(arrays)
        return {f"action{name}": action for name, action in by_suffix(actions).items()} | others

    def example(self, batch: int) -> dict[str, np.ndarray[Any, Any]]:
        """Inputs of zeros for a batch, where an episode begins and all actions are allowed."""
        fill = {MASK: 1, FIRST: 1}
        return {p.name: np.full((batch, *p.shape), fill.get(p.name, 0), p.dtype) for p in self.inputs}

    def stored_dtype(self, port: Port) -> Any:
        """The type in which JAX has an array."""
        return jax.dtypes.canonicalize_dtype(port.dtype)

    def _shapes(self) -> Any:
        given = {port.name: jax.ShapeDtypeStruct((1, *port.shape), self.stored_dtype(port)) for port in self.inputs}
        return jax.eval_shape(self._outputs, given)

    def _outputs(self, arrays: Mapping[str, Array]) -> tuple[Any, dict[str, Array]]:
        obs = with_leaves(spaces.blank(self.spec.obs, 1), lambda name: arrays[f"obs.{name}" if name else "obs"])
        memory: Any = Memory(arrays[MEMORY], None, None) if MEMORY in arrays else ()
        decision = self._networks.decide_at(self.actor, memory, View(obs, arrays.get(FIRST), arrays.get(MASK)))
        actions = self._networks.head.to_env(decision.policy.mode())
        others = _parameters(decision.policy, self.spec.action)
        if (after := decision.output.memory) is not None:
            others[NEXT_MEMORY] = after
        return actions, others


def by_suffix(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by what follows the tree's name: nothing, or a dot and the path."""
    return {f".{name}" if name else "": leaf for name, leaf in named_leaves(tree).items()}


def _ports(name: str, spec: ObsSpec, about: str) -> list[Port]:
    """The arrays of a space."""

    def shape(part: LeafSpec) -> tuple[int, ...]:
        return () if isinstance(part, spaces.DiscreteSpec) else part.shape

    leaves = spaces.map_parts(lambda part: np.broadcast_to(np.zeros((), part.dtype), shape(part)), spec)
    return [Port(name + suffix, leaf.shape, leaf.dtype.name, about) for suffix, leaf in by_suffix(leaves).items()]


def _parameters(distribution: Distribution, action: ObsSpec) -> dict[str, Array]:
    """What says a distribution, ``[N, ...]`` each, by name."""
    if isinstance(distribution, Joint):
        count = itertools.count()
        places = by_suffix(spaces.map_parts(lambda part: np.asarray(next(count)), action))
        each = {suffix: _parameters(distribution.parts[place], action) for suffix, place in places.items()}
        return {name + suffix: array for suffix, found in each.items() for name, array in found.items()}
    fields = {name: getattr(distribution, name) for name in PARAMETERS if hasattr(distribution, name)}
    whole = jnp.broadcast_shapes(*(array.shape for array in fields.values()))
    return {name: jnp.broadcast_to(array, whole) for name, array in fields.items()}
