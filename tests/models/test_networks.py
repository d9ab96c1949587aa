"""Networks together: what each of two reads alone, and its gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgd.models.networks import Network, are_alike, network, read_together
from rlgd.models.recurrent import Recurrence
from rlgd.pytrees import Features
from tests.support.marks import quick

ROWS, INPUTS = 6, 3
CASES: dict[str, dict[str, Any]] = {
    "mlp": {},
    "linear": {"hidden_sizes": ()},
    "dropout": {"dropout": 0.5},
    "bfloat16": {"compute_dtype": "bfloat16"},
    "gru": {"kind": "gru", "memory": Recurrence("gru", 4)},
    "lstm": {"kind": "lstm", "memory": Recurrence("lstm", 4)},
}


def pair(options: dict[str, Any], outputs: int) -> tuple[Network, Network]:
    """A policy's network and a value function's."""
    options = {"hidden_sizes": (5, 5)} | options
    return network(INPUTS, outputs, **options), network(INPUTS, 1, **options)


def given(options: dict[str, Any]) -> tuple[Features, Features]:
    """Features that differ in the memory, if there is any."""
    vector = jax.random.normal(jax.random.key(0), (2, ROWS, INPUTS))
    if (layer := options.get("memory")) is None:
        return (Features(vector),) * 2
    first = jnp.zeros((2, ROWS), bool).at[:, 2].set(True)
    memories = jax.random.normal(jax.random.key(1), (2, 2, layer.memory_size))
    one, other = (Features(vector, first=first, memory=memory) for memory in memories)
    return one, other


@pytest.mark.parametrize("outputs", quick([3], [1, 3]))
@pytest.mark.parametrize("name", CASES)
def test_together_they_read_what_each_reads_alone(name: str, outputs: int) -> None:
    options = CASES[name]
    networks, features = pair(options, outputs), given(options)
    params = tuple(each.init(jax.random.key(number)) for number, each in enumerate(networks))
    loose: dict[str, Any] = {"rtol": 2e-2, "atol": 2e-2} if name == "bfloat16" else {"rtol": 1e-5, "atol": 1e-6}

    def keys() -> tuple[Any, Any]:
        first, second = jax.random.split(jax.random.key(5))
        return (first, second) if name == "dropout" else (None, None)

    def alone(params: Any) -> list[Any]:
        each = zip(networks, params, features, keys(), strict=True)
        return [one.read(tree, seen, key) for one, tree, seen, key in each]

    def together(params: Any) -> list[Any]:
        policy, value = read_together(networks[0], params, features, keys())
        return [policy, value._replace(outputs=value.outputs[..., :1])]

    for one, other in zip(*map(jax.tree.leaves, (alone(params), together(params))), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, **loose)

    def weighted(read: Any) -> Any:
        def total(params: Any) -> Array:
            return sum((jnp.sum(jnp.sin(3 * part.outputs)) for part in read(params)), jnp.zeros(()))

        return jax.grad(total)(params)

    for one, other in zip(*map(jax.tree.leaves, (weighted(alone), weighted(together))), strict=True):
        np.testing.assert_allclose(one, other, **{key: 10 * size for key, size in loose.items()})


def test_networks_of_other_layers_are_not_alike() -> None:
    policy, value = (each.init(jax.random.key(0)) for each in pair({}, 3))
    assert are_alike(policy, value)
    assert not are_alike(value, policy)
    assert not are_alike(policy, None)
    for sizes in ((5, 6), (6, 5), (4, 5), (5,), ()):
        assert not are_alike(policy, pair({"hidden_sizes": sizes}, 3)[1].init(jax.random.key(1)))


def test_what_the_wider_network_has_more_of_is_0() -> None:
    networks, features = pair({}, 3), given({})
    params = networks[0].init(jax.random.key(0)), networks[1].init(jax.random.key(1))
    value = read_together(networks[0], params, features)[1]
    assert value.outputs.shape == (2, ROWS, 3)
    np.testing.assert_array_equal(value.outputs[..., 1:], 0)
