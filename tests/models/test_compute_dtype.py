"""Networks that compute in 16 bits: parameters, outputs and gradients keep their own type."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd import training
from rlgd.agents import PPO
from rlgd.envs import DeviceEnv, make
from rlgd.models.networks import network
from rlgd.models.recurrent import Recurrence
from rlgd.pytrees import Features
from tests.support.marks import quick

ROWS = 8
KINDS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "images": {"images": ((10, 10, 4),)},
    "gru": {"kind": "gru", "memory": Recurrence("gru", 8)},
    "dropout": {"dropout": 0.25},
}


def features(kind: str) -> Features:
    rng = np.random.default_rng(0)
    vector = jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32)
    images = (jnp.asarray(rng.integers(0, 255, (ROWS, 10, 10, 4)), jnp.uint8),) if kind == "images" else ()
    if kind == "gru":
        return Features(vector, first=jnp.zeros(ROWS, bool), memory=jnp.ones((ROWS, 8)))
    return Features(vector, images)


@pytest.mark.parametrize("kind", quick(["mlp"], KINDS))
def test_only_the_arithmetic_has_16_bits(kind: str) -> None:
    given, key = features(kind), jax.random.key(1) if kind == "dropout" else None
    whole, low = (network(3, 2, compute_dtype=dtype, **KINDS[kind]) for dtype in ("float32", "bfloat16"))
    params = low.init(jax.random.key(0))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params, whole.init(jax.random.key(0))))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}

    def read(net: Any) -> Any:
        return jax.value_and_grad(lambda p: jnp.sum(jnp.square(net.read(p, given, key).outputs)))(params)

    (value, gradient), (low_value, low_gradient) = read(whole), read(low)
    assert {leaf.dtype for leaf in jax.tree.leaves((low_value, low_gradient))} == {jnp.dtype("float32")}
    assert value != low_value
    np.testing.assert_allclose(value, low_value, rtol=0.05)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=0.1 * float(jnp.abs(a).max())), gradient, low_gradient
    )
    text = jax.jit(low.read).lower(params, given, key).as_text()
    assert "dot_general" in text
    # Sums may be wider than what is multiplied.
    operands = [line.split(" : ")[-1].partition("->")[0] for line in text.splitlines() if "dot_general" in line]
    assert all("bf16" in both and "xf32" not in both for both in operands)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"network": "lstm", "memory_width": 4}, {"box_std": "gsde"}])
def test_an_agent_trains_with_it(changes: dict[str, Any]) -> None:
    small: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "num_minibatches": 2, "num_epochs": 1}
    agent = PPO(**small, hidden_sizes=(8,), compute_dtype="bfloat16", **changes).prepared()
    env = make("Pendulum-v1")
    assert isinstance(env, DeviceEnv)
    loop = training.initialize(agent, env, jax.random.key(0), 1000)
    after, metrics = jax.jit(lambda loop: training.iterate(agent, env, loop))(loop)
    assert metrics["fault/count"] == 0
    for one, other in zip(jax.tree.leaves(loop), jax.tree.leaves(after), strict=True):
        assert one.dtype == other.dtype
