"""What an exported policy reads and returns: arrays by name, whatever the spaces are."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
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
from rlgd.system.layout import PORTABLE, laid_out

MASK, FIRST, MEMORY, NEXT_MEMORY = "action_mask", "first", "memory", "next_memory"
TOLERANCE = 1e-4
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
        self._parts = _parts("obs", spec.obs)
        self.inputs = [
            port
            for port in _ports("obs", spec.obs, "the observation, as the environment gives it")
            if not any(f"{port.name}.".startswith(f"obs.{part}.") for part in agent.critic_parts(spec))
        ]
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
        with laid_out(PORTABLE):
            actions, others = self._outputs(arrays)
        return {f"action{name}": action for name, action in by_suffix(actions).items()} | others

    def check(self, run: Callable[[dict[str, Any]], Mapping[str, Any]], batch: int) -> str | None:
        """What differs between the policy and a program that was written for it, on a few random inputs.

        Args:
            run: the program, from arrays in the environment's types to arrays.
            batch: how many observations it takes.

        Returns:
            The output that differs most, and by how much; None if none does.
        """
        random = np.random.default_rng(0)
        given = {p.name: _random(p, self._parts.get(p.name), random, batch) for p in self.inputs}
        stored = {p.name: given[p.name].astype(self.stored_dtype(p)) for p in self.inputs}
        outputs, expected = run(given), jax.jit(self)(stored)
        for port in self.outputs:
            found, wanted = (np.asarray(each[port.name]) for each in (outputs, expected))
            if found.shape != wanted.shape:
                return f"{port.name} has shape {found.shape}, not {wanted.shape}"
            if wanted.dtype.kind == "f":
                if not np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                    return f"{port.name} differs by {np.abs(found - wanted).max():.2g}"
            elif np.mean(found == wanted) < 0.5:  # rounding may decide between a few actions
                return f"{port.name} is {found.ravel()[:4]}, not {wanted.ravel()[:4]}"
        return None

    def stored_dtype(self, port: Port) -> Any:
        """The type in which JAX has an array."""
        return jax.dtypes.canonicalize_dtype(port.dtype)

    def _shapes(self) -> Any:
        given = {port.name: jax.ShapeDtypeStruct((1, *port.shape), self.stored_dtype(port)) for port in self.inputs}
        return jax.eval_shape(self._outputs, given)

    def _outputs(self, arrays: Mapping[str, Array]) -> tuple[Any, dict[str, Array]]:
        batch = next(iter(arrays.values())).shape[0]
        blank = spaces.blank(self.spec.obs, batch)
        unread = named_leaves(blank)  # what the critic alone reads is no input

        def leaf(name: str) -> Array:
            return arrays[given] if (given := f"obs.{name}" if name else "obs") in arrays else unread[name]

        obs = with_leaves(blank, leaf)
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


def _parts(name: str, spec: ObsSpec) -> dict[str, LeafSpec]:
    """The description of each array of a space, by the array's name."""
    leaves, count = spaces.leaf_specs(spec), itertools.count()
    places = by_suffix(spaces.map_parts(lambda part: np.asarray(next(count)), spec))
    return {name + suffix: leaves[place] for suffix, place in places.items()}


def _random(port: Port, part: LeafSpec | None, random: np.random.Generator, batch: int) -> Any:
    """Numbers of a space, or for another input, ``[batch, *shape]``."""
    shape = (batch, *port.shape)
    if isinstance(part, spaces.DiscreteSpec):
        return (part.start + random.integers(part.n, size=shape)).astype(port.dtype)
    if isinstance(part, spaces.MultiDiscreteSpec):
        numbers = np.array(part.start) + random.integers(part.nvec, size=(batch, len(part.nvec)))
        return numbers.reshape(shape).astype(port.dtype)
    kind = np.dtype(port.dtype).kind
    if kind in "iu" and part is not None:
        most = 2 if isinstance(part, spaces.MultiBinarySpec) else min(np.iinfo(port.dtype).max, 255) + 1
        return random.integers(most, size=shape).astype(port.dtype)
    return (random.random(shape) < 0.7) if kind == "b" else random.normal(size=shape).astype(port.dtype)


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
