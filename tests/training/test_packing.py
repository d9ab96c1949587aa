"""Arrays packed into one: the same numbers on both sides, and the same actions."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlgd import spaces
from rlgd.agents import PPO, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.agents.base.trial import random_obs
from rlgd.pytrees import View
from rlgd.training.host_acting import HostActing
from rlgd.training.packing import Packing

DTYPES = ("bool", "uint8", "int8", "int32", "uint16", "float32", "bfloat16", "float16")
kinds = st.lists(
    st.tuples(st.lists(st.integers(0, 4), max_size=3).map(tuple), st.sampled_from(DTYPES).map(jnp.dtype)), max_size=5
)


def numbers(kinds: Any, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [(10 * generator.normal(size=shape)).clip(0).astype(dtype) for shape, dtype in kinds]


@pytest.mark.slow
@given(kinds=kinds, seed=st.integers(0, 99))
def test_what_is_packed_comes_out_on_the_other_side(kinds: Any, seed: int) -> None:
    arrays = numbers(kinds, seed)
    packing = Packing.of(arrays)
    there = np.zeros(packing.size, np.uint8)
    for view, array in zip(packing.views(there), arrays, strict=True):
        view[...] = array
    inside = packing.unpacked(jnp.asarray(there))
    back = packing.views(np.array(packing.packed(inside)))
    for array, here, again in zip(arrays, inside, back, strict=True):
        assert array.dtype == here.dtype == again.dtype
        assert array.shape == here.shape == again.shape
        np.testing.assert_array_equal(array, here)
        np.testing.assert_array_equal(array, again)


BOX = gymnasium.spaces.Box(-1, 1, (2,))
PARTS = gymnasium.spaces.Dict(
    {"image": gymnasium.spaces.Box(0, 255, (5, 5, 1), np.uint8), "number": gymnasium.spaces.Discrete(3), "box": BOX}
)
SMALL: dict[str, Any] = {"num_envs": 3, "hidden_sizes": (4,), "measure_every": 0}
LENGTH = 6
CASES: dict[str, tuple[Agent, Any, Any]] = {
    "masked": (PPO(**SMALL), BOX, gymnasium.spaces.Discrete(4, start=2)),
    "parts": (PPO(**SMALL), PARTS, BOX),
    "gru": (PPO(**SMALL, network="gru", memory_width=4), BOX, gymnasium.spaces.MultiDiscrete([2, 3])),
    "gsde": (PPO(**SMALL, box_std="gsde"), BOX, BOX),
    "reinforce": (REINFORCE(**SMALL), BOX, gymnasium.spaces.MultiBinary(3)),
}


@pytest.mark.parametrize("name", CASES)
def test_packed_views_give_the_same_actions(name: str) -> None:
    agent, obs_space, action_space = CASES[name]
    spec = spaces.spec(obs_space, action_space, 20)
    agent = agent.prepared()
    actor = agent.init(spec, jax.random.key(0)).actor
    obs = jax.device_get(random_obs(spec, jax.random.key(1), LENGTH, agent.num_envs))
    first = np.random.default_rng(0).random((LENGTH, agent.num_envs)) < 0.3
    mask = np.random.default_rng(1).random((LENGTH, agent.num_envs, 4)) < 0.8 if name == "masked" else None
    mask = None if mask is None else mask | ~mask.any(axis=-1, keepdims=True)
    views = [
        View(jax.tree.map(lambda x: x[t], obs), first[t], None if mask is None else mask[t])  # noqa: B023
        for t in range(LENGTH)
    ]

    def acted(packs: bool) -> tuple[list[Any], Any]:
        memory = agent.memory(spec, agent.num_envs)
        acting = HostActing(
            agent, spec, actor, memory, views[0], jax.random.key(2), LENGTH, jax.devices()[0], packs=packs
        )
        return [acting.fetch(acting.start(t, view)) for t, view in enumerate(views)], acting.memory

    (actions, memory), (others, other_memory) = acted(False), acted(True)
    for pair, other_pair in zip(actions, others, strict=True):
        for action, other in zip(pair, other_pair, strict=True):
            assert action.dtype == other.dtype
            np.testing.assert_allclose(action, other, rtol=1e-6)
    jax.tree.map(np.testing.assert_allclose, memory, other_memory)
    assert not all(np.array_equal(actions[0][0], action) for action, _ in actions)
