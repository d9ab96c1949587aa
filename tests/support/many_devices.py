"""What the tests of several devices do in a process that has eight of them."""

import contextlib
import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import rlgd
from rlgd import training
from rlgd.agents import A2C, NPG, PPO, REINFORCE, TRPO, preset
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, HostEnv, make
from rlgd.hyperparameters import with_values
from rlgd.maths.minibatches import as_rows, epochs
from rlgd.pytrees import LoopState
from rlgd.system.mesh import SHUFFLES, active, make_mesh
from rlgd.training.device_rollout import collect
from rlgd.training.loop import ROLLOUT, UPDATE, iteration_key
from rlgd.training.placement import placed, shardings
from rlgd.training.runners import chunk_program, measure_on_device_program
from rlgd.training.shares import share_of

DEVICES = (1, 2, 8)
SMALL: dict[str, Any] = {"num_envs": 16, "hidden_sizes": (16,), "measure_every": 0}
MANY: dict[str, Any] = {**SMALL, "rollout_length": 16, "num_minibatches": 2, "num_epochs": 2}
AGENTS: dict[str, Agent] = {
    "reinforce": REINFORCE(**SMALL),
    "a2c": A2C(**SMALL, scale_reward=True),
    "ppo": PPO(**MANY, normalize_obs=True),
    "ppo-gru": PPO(**MANY, network="gru", memory_width=8, sequence_length=4),
    "npg": NPG(**MANY),
    "trpo": TRPO(**MANY),
}


def _made(env_id: str) -> DeviceEnv:
    env = make(env_id, max_episode_steps=24)
    assert isinstance(env, DeviceEnv)
    return env


def _begun(agent: Agent, env: DeviceEnv, devices: int) -> LoopState:
    loop = training.initialize(agent, env, jax.random.key(0), 10_000)
    mesh = make_mesh(devices)
    return loop if mesh is None else placed(loop, shardings(agent, env, mesh))


def _first_gradient(agent: Agent, env: DeviceEnv, loop: LoopState) -> Any:
    rollout, loop = collect(agent, env, loop, iteration_key(loop, ROLLOUT))
    return agent.gradient(env.spec, loop.agent_state, rollout, loop.progress, iteration_key(loop, UPDATE))


def _largest_difference(one: Any, other: Any) -> float:
    pairs = zip(*map(jax.tree.leaves, jax.device_get((one, other))), strict=True)
    return max((float(np.abs(a - b).max()) for a, b in pairs if a.size), default=0.0)


def gradients(name: str, tolerance: float) -> None:
    """The gradient of the first iteration is the same on any number of devices."""
    assert len(jax.devices()) == DEVICES[-1]
    agent, found = AGENTS[name].prepared(), []
    for devices in DEVICES:
        env = _made("CartPole-v1")
        with active(make_mesh(devices)):
            found.append(jax.jit(lambda loop, env=env: _first_gradient(agent, env, loop))(_begun(agent, env, devices)))
    assert all(jnp.linalg.norm(leaf) > 0 for leaf in jax.tree.leaves(found[0].policy))
    for gradient in found[1:]:
        difference = _largest_difference(found[0], gradient)
        assert difference <= tolerance, (name, difference)


def training_drifts(name: str, iterations: int, tolerance: float) -> None:
    """Parameters after some iterations are the same up to rounding, and the state stays where it was placed."""
    agent, found = AGENTS[name].prepared(), []
    for devices in DEVICES:
        env, mesh = _made("CartPole-v1"), make_mesh(devices)
        loop = _begun(agent, env, devices)
        runner = training.DeviceRunner(agent, env, iterations, mesh)
        after, metrics = runner(loop, iterations, 2**31 - 1)
        assert len(metrics["rollout/steps"]) == iterations
        found.append((after.agent_state.params, metrics["train/objective"]))
        if mesh is not None:
            for leaf, before in zip(jax.tree.leaves(after), jax.tree.leaves(loop), strict=True):
                assert leaf.sharding.is_equivalent_to(before.sharding, leaf.ndim)
            assert after.obs.sharding.spec == PartitionSpec("data")
    for other in found[1:]:
        difference = _largest_difference(found[0][0], other[0])
        assert difference <= tolerance, (name, difference)


def host_training_drifts(name: str, iterations: int, tolerance: float) -> None:
    """On the host, too, parameters after some iterations are the same up to rounding."""
    agent, found = dataclasses.replace(AGENTS[name], measure_every=1).prepared(), []
    env = make("CartPole-v1", backend="host", max_episode_steps=24)
    assert isinstance(env, HostEnv)
    for devices in (1, 8):
        share = share_of(agent.num_envs, make_mesh(devices))
        with contextlib.closing(env.open(share.number)) as vector:
            loop = training.initialize(agent, env, jax.random.key(0), 10_000)
            loop = share.begin_episodes(agent, vector, loop, (0, 0))
            runner = training.HostRunner(agent, vector, share=share)
            after, metrics = runner(loop, iterations, 2**31 - 1)
        assert np.isfinite(metrics["ascent/update_norm"]).any()
        found.append((after.agent_state.params, after.obs))
    assert found[1][1].sharding.spec == PartitionSpec("data")
    difference = _largest_difference(found[0], found[1])
    assert difference <= tolerance, (name, difference)


def as_many_seeds_learn(seeds: int) -> None:
    """Training on eight devices learns as often, and as well, as on one."""

    def mean_return(devices: int, seed: int) -> float:
        settings: dict[str, Any] = {"seed": seed, "devices": devices}
        result = rlgd.train(preset("ppo", "CartPole-v1"), "CartPole-v1", total_timesteps=100_000, **settings)
        return rlgd.evaluate(result.policy, "CartPole-v1", episodes=20, seed=seed).mean

    found = {}
    for devices in (1, 8):
        found[devices] = np.array([mean_return(devices, seed) for seed in range(seeds)])
        print(devices, "devices:", np.sort(found[devices]).round(1), flush=True)
    assert (found[8] >= 475).sum() >= (found[1] >= 475).sum() - 2
    assert abs(found[8].mean() - found[1].mean()) <= 2 * np.hypot(*(r.std() for r in found.values())) / seeds**0.5 + 1


def climbers_are_divided() -> None:
    """A federated ascent is the same on any number of devices, and exchanges parameters in meetings alone."""
    agent = with_values(AGENTS["ppo"], {"sync_every": 2.0, "climbers": 8, "num_minibatches": 1}).prepared()
    found = []
    for devices in (1, 8):
        env, mesh = _made("CartPole-v1"), make_mesh(devices)
        after, _ = training.DeviceRunner(agent, env, 4, mesh)(_begun(agent, env, devices), 3, 2**31 - 1)
        found.append(after.agent_state.params)
    assert jax.tree.leaves(found[1])[0].sharding.spec == PartitionSpec("data")
    assert _largest_difference(*found) <= 1e-5
    with active(make_mesh(8)):
        loop = _begun(agent, env, 8)
        text = chunk_program.program(env).lower(agent, 4, loop, np.int32(1), np.int32(1)).compile().as_text()
    moved = [line for line in text.splitlines() if re.search(r" (all-reduce|all-gather|all-to-all)(-start)?\(", line)]
    outside = [line for line in moved if "/cond/" not in line]
    assert len(moved) > len(outside)
    assert not any(re.search(r"f32\[\d+", line.partition("(")[0]) for line in outside), outside


def own_rows_stay(name: str) -> None:
    """If each device shuffles its own rows, nothing is gathered; otherwise only what is shuffled is."""
    agent, env = AGENTS[name].prepared(), _made("CartPole-v1")
    for shuffle in SHUFFLES:
        loop = jax.eval_shape(lambda key: training.initialize(agent, env, key, 1), jax.random.key(0))
        mesh = make_mesh(8, shuffle)
        assert mesh is not None
        where = shardings(agent, env, mesh)
        loop = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), loop, where)
        with active(mesh):
            text = chunk_program.program(env).lower(agent, 4, loop, np.int32(1), np.int32(1)).compile().as_text()
        assert ("all-gather" in text) == (shuffle == "global" and hasattr(agent, "num_minibatches")), shuffle
        assert "all-reduce" in text


def minibatches_are_of_all_devices() -> None:
    """A pass takes each row once; a minibatch has as many rows of each device where each shuffles its own."""
    num_envs, length, passes = 16, 6, 3
    envs = jnp.broadcast_to(jnp.arange(num_envs), (length, num_envs))
    numbers = jnp.arange(length * num_envs).reshape(length, num_envs)

    def seen(key: jax.Array) -> Any:
        rows = as_rows((envs, numbers))
        return epochs(lambda carry, batch, _: (carry, batch), 0, rows, num_envs, key, passes, 4)[1]

    found = {}
    for devices, shuffle in ((1, "global"), (8, "global"), (8, "local")):
        with active(make_mesh(devices, shuffle)):
            found[devices, shuffle] = jax.device_get(jax.jit(seen)(jax.random.key(0)))
    for env, number in found.values():
        np.testing.assert_array_equal(np.sort(number.reshape(passes, -1)), np.tile(np.arange(96), (passes, 1)))
        np.testing.assert_array_equal(env, number % num_envs)
        assert len(np.unique(number.reshape(passes, -1), axis=0)) == passes
    np.testing.assert_array_equal(found[1, "global"][1], found[8, "global"][1])
    device = found[8, "local"][0] // 2
    for part in range(8):
        np.testing.assert_array_equal((device == part).sum(-1), 24 // 8)
    assert ((found[8, "global"][0] // 2 == 0).sum(-1) != 24 // 8).any()


def update_is_divided() -> None:
    """Each device has its share of a minibatch's rows in every product of the networks, and measures too."""
    agent, env, devices = dataclasses.replace(AGENTS["ppo"], measure_every=1).prepared(), _made("CartPole-v1"), 8
    loop, rows = _begun(agent, env, devices), 16 * 16 // 2
    with active(make_mesh(devices)):
        text = chunk_program.program(env).lower(agent, 4, loop, np.int32(1), np.int32(1)).compile().as_text()
        metrics, _ = measure_on_device_program(agent, env, loop)
    assert "all-reduce" in text
    assert f"f32[{rows // devices},16]" in text
    assert f"f32[{rows},16]" not in text
    assert np.isfinite(metrics["ascent/update_norm"])
