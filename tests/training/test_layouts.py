"""An accelerator's layout computes what a CPU's does, up to rounding: it runs on the CPU too."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from rlgd import training
from rlgd.agents import A2C, NPG, PPO, REINFORCE, TRPO
from rlgd.agents.base.agent import Agent
from rlgd.ascent import Ascent
from rlgd.envs import DeviceEnv, make
from rlgd.maths import blocks
from rlgd.system import layout as layouts
from rlgd.system.layout import ACCELERATOR, CPU, Layout, laid_out
from rlgd.training.measuring import measure_on_device
from tests.support.marks import quick

SMALL: dict[str, Any] = {"num_envs": 4, "hidden_sizes": (8,)}
MANY: dict[str, Any] = {**SMALL, "rollout_length": 20, "num_minibatches": 4, "num_epochs": 2}
AGENTS: dict[str, Agent] = {
    "ppo": PPO(**MANY, measure_every=1, ascent=Ascent("adam", max_grad_norm=0.1, weight_decay=0.1)),
    "ppo-lamb": PPO(**MANY, ascent=Ascent("lamb"), measure_every=0),
    "ppo-target_kl": PPO(**MANY, target_kl=1e-3, ascent=Ascent("adam", rollout_moments="reset"), measure_every=0),
    "ppo-outer": PPO(**MANY, ascent=Ascent("momentum", outer_learning_rate=0.5), normalize_obs=True, measure_every=0),
    "ppo-gru": PPO(**MANY, network="gru", memory_width=4, measure_every=0),
    "ppo-dropout": PPO(**MANY, dropout=0.3, measure_every=0),
    "a2c": A2C(**SMALL, measure_every=1),
    "reinforce": REINFORCE(**SMALL, baseline="value", measure_every=1),
    "npg": NPG(**MANY, measure_every=0),
    "trpo": TRPO(**MANY, measure_every=1),
}


def after(agent: Agent, env: DeviceEnv, layout: Layout) -> Any:
    """The state after two iterations, and the metrics of the second one."""
    prepared = agent.prepared()
    loop = training.initialize(prepared, env, jax.random.key(0), 1000)
    iterate = jax.jit(lambda loop: training.iterate(prepared, env, loop))
    with laid_out(layout):
        loop, metrics = iterate(iterate(loop)[0])
        if agent.measure_every:
            metrics |= jax.jit(lambda loop: measure_on_device(prepared, env, loop))(loop)[0]
    return loop, metrics


QUICK = [("ppo", "CartPole-v1"), ("ppo", "Pendulum-v1"), ("reinforce", "CartPole-v1"), ("trpo", "CartPole-v1")]
CASES = [(name, env_id) for name in AGENTS for env_id in ("CartPole-v1", "Pendulum-v1")]


@pytest.mark.parametrize(("name", "env_id"), quick(QUICK, CASES))
def test_an_accelerators_layout_learns_the_same(name: str, env_id: str) -> None:
    env = make(env_id, max_episode_steps=11)
    assert isinstance(env, DeviceEnv)
    # Under dropout each block has a key of its own.
    small = CPU if AGENTS[name].dropout else CPU._replace(block_rows=8)
    # Nothing of it is left out: a loop that is unrolled with a rest, joined arrays, and sums of blocks.
    other = ACCELERATOR._replace(unroll=3, beside_rows=4)
    (loop, metrics), (other_loop, other_metrics) = (after(AGENTS[name], env, layout) for layout in (small, other))
    close = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5)
    jax.tree.map(close, loop.agent_state, other_loop.agent_state)
    assert [x.dtype for x in jax.tree.leaves(loop)] == [x.dtype for x in jax.tree.leaves(other_loop)]
    for key, value in metrics.items():
        if key in ("ascent/cg_iterations", "ascent/cg_residual"):
            continue  # rounding decides when the residual is small enough
        np.testing.assert_allclose(value, other_metrics[key], rtol=2e-2, atol=2e-4, err_msg=key)


IMAGES = "minatar:Breakout-v1"


@pytest.mark.parametrize(
    ("agent", "env_id", "beside"),
    [
        (AGENTS["trpo"], "CartPole-v1", True),
        (AGENTS["npg"], "Pendulum-v1", True),
        (AGENTS["trpo"], IMAGES, False),
        (AGENTS["ppo"], "CartPole-v1", False),
        (AGENTS["a2c"], "CartPole-v1", False),
        (PPO(**MANY, ascent=Ascent("kfac"), measure_every=0), "CartPole-v1", False),
    ],
    ids=["trpo", "npg", "trpo-images", "ppo", "a2c", "ppo-kfac"],
)
def test_blocks_are_beside_one_another_where_one_network_is_read(
    agent: Agent, env_id: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two that are joined there would be transposes, with convolutions grouped ones, which a GPU makes slowly."""
    seen: list[int] = []
    num_beside = blocks.num_beside

    def spy(rows: int, numbers: int = 1) -> int:
        seen.append(num_beside(rows, numbers))
        return seen[-1]

    monkeypatch.setattr(blocks, "num_beside", spy)
    env = make(env_id)
    assert isinstance(env, DeviceEnv)
    prepared = agent.prepared()
    with laid_out(ACCELERATOR._replace(beside_rows=4)):
        loop = jax.eval_shape(lambda key: training.initialize(prepared, env, key, 1000), jax.random.key(0))
        jax.eval_shape(lambda loop: training.iterate(prepared, env, loop), loop)
    assert any(number > 1 for number in seen) is beside
    assert any(x.ndim > 2 for x in jax.tree.leaves(loop.agent_state.params)) is (env_id == IMAGES), "convolutions"


def test_several_accelerators_do_not_cut_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert layouts.layout() == ACCELERATOR
    monkeypatch.setattr(layouts, "num_devices", lambda: 2)
    assert layouts.layout() == ACCELERATOR._replace(beside_rows=None)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert layouts.layout() == CPU._replace(block_rows=None, block_pixels=None, transposes=False)
