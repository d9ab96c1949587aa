"""An exported policy acts in ONNX Runtime, in a process without JAX, as it acts in rlgd."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from flax import linen, nnx
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.vector.utils import concatenate, create_empty_array

import rlgd
from rlgd import spaces
from rlgd.agents import A2C, NPG, PPO, REINFORCE, TRPO, Agent
from rlgd.errors import UsageError
from rlgd.exporting import Graph
from rlgd.exporting.interface import FIRST, MASK, MEMORY, NEXT_MEMORY, Interface, by_suffix
from rlgd.pytrees import Actor, Features
from tests.support.spaces import ACTIONS

RUNNER = Path(__file__).parent.parent / "support" / "run_onnx.py"
STEPS = 3  # of policies with a memory
OBSERVATIONS: dict[str, Space[Any]] = {
    "numbers": Box(-5, 5, (4,)),
    "float64": Box(-5, 5, (2, 3), np.float64),
    "float16": Box(-5, 5, (3,), np.float16),
    "discrete": Discrete(5, start=-2),
    "several": MultiDiscrete([2, 4], dtype=np.uint8),
    "bits": MultiBinary([2, 3]),
    "bytes": Box(0, 255, (7,), np.uint8),
    "image": Box(0, 255, (36, 40, 3), np.uint8),
    "stacked_images": Box(0, 255, (4, 12, 12), np.uint8),
    "dict": Dict({"z": Box(-1, 1, (3,)), "a.b": Discrete(4), "screen": Box(0, 255, (12, 12), np.uint8)}),
    "tuple": Tuple((Box(-1, 1, (2,)), Dict({"x": MultiBinary(2)}))),
}
ALL_ACTIONS: dict[str, Space[Any]] = {
    **ACTIONS,
    "hybrid": Dict({"z": Discrete(3), "b": Box(-1, 1, (2,)), "m": MultiDiscrete([2, 3])}),
    "hybrid_tuple": Tuple((Discrete(3, start=1), Box(-2, 3, (2,), np.float64), MultiBinary(2))),
}
MASKED = ("discrete", "from_minus_1", "several", "several_in_a_matrix")


class OwnTorso(linen.Module):
    """A network of a user."""

    @linen.compact
    def __call__(self, features: Features) -> jax.Array:
        return linen.LayerNorm()(linen.gelu(linen.Dense(16)(features.vector)))


class OwnNNX(nnx.Module):
    """Another one, with a memory, for single steps."""

    memory_size = 8

    def __init__(self, features: Features, *, rngs: nnx.Rngs) -> None:
        self.cell = nnx.GRUCell(features.vector.shape[-1], self.memory_size, rngs=rngs)

    def __call__(self, features: Features) -> tuple[jax.Array, jax.Array]:
        assert features.first is not None
        steps = features.first.ndim - 1  # of a sequence, or of one step
        first, x = (jnp.expand_dims(part, 1) if not steps else part for part in (features.first, features.vector))
        memory, after = features.memory, []
        for t in range(x.shape[1]):
            memory, _ = self.cell(jnp.where(first[:, t, None], 0, memory), x[:, t])
            after.append(memory)
        every = jnp.stack(after, axis=1)
        return (every, every) if steps else (memory, memory)


class Case(NamedTuple):
    """A policy to export."""

    agent: Agent
    obs: str = "numbers"
    action: str = "discrete"
    mask: bool = False


MIXED = {
    "ppo_dict_masked": Case(PPO(normalize_obs=True), "dict", "several", mask=True),
    "a2c_float64": Case(A2C(normalize_obs=True, activation="gelu"), "float64", "float64"),
    "reinforce_tuple": Case(REINFORCE(), "tuple", "bits_in_a_matrix"),
    "npg_tanh": Case(NPG(box_distribution="tanh", box_std="state"), "several", "matrix"),
    "trpo_beta": Case(TRPO(box_distribution="beta"), "discrete", "float64"),
    "gsde": Case(PPO(box_std="gsde"), "bytes", "integers"),
    "image": Case(PPO(hidden_sizes=(32,)), "image", "from_minus_1"),
    "impala": Case(PPO(network="impala", hidden_sizes=(32,)), "stacked_images", "half_bounded"),
    "simba": Case(A2C(network="simba", hidden_sizes=(16,)), "bits", "hybrid"),
    "layer_norm": Case(PPO(network="layer_norm"), "float16", "hybrid_tuple"),
    "attention": Case(PPO(network="attention", memory_width=16, memory_window=4), "dict", "several", mask=True),
    "gru": Case(PPO(network="gru", normalize_obs=True), "numbers", "number"),
    "lstm": Case(TRPO(network="lstm", value_network="mlp"), "tuple", "hybrid"),
    "mingru and lru": Case(A2C(network="lru", value_network="mingru"), "numbers", "number"),
    "minlstm": Case(PPO(network="minlstm"), "dict"),
    "rnn": Case(A2C(network="rnn", value_network="policy"), "discrete", "one"),
    "shared": Case(PPO(value_network="policy", hidden_sizes=()), "bits", "bits"),
    "critic_obs": Case(PPO(critic_obs=("z",), dropout=0.1), "dict", "box"),
    "own": Case(PPO(network=OwnTorso), "numbers", "box"),
}
QUICK = (
    "ppo_dict_masked",
    "a2c_float64",
    "npg_tanh",
    "gsde",
    "impala",
    "simba",
    "attention",
    "gru",
    "shared",
    "critic_obs",
    "own",
)
EVERY = (
    MIXED
    | {f"obs_{name}": Case(PPO(normalize_obs=name not in ("image", "stacked_images")), name) for name in OBSERVATIONS}
    | {f"action_{name}": Case(A2C(), "numbers", name) for name in ALL_ACTIONS}
    | {f"mask_{name}": Case(PPO(), "numbers", name, mask=True) for name in MASKED}
    | {
        f"{kind}_{std}_{name}": Case(TRPO(box_distribution=kind, box_std=std), "numbers", name)
        for kind in ("gaussian", "tanh", "beta")
        for std in ("free", "state", "gsde")
        for name in ("box", "matrix", "float64")
        if kind != "beta" or std == "free"
    }
    | {
        f"{agent.__name__}_{network}_{obs}": Case(agent(network=network), obs, "several", mask=True)
        for agent in (A2C, NPG, PPO, TRPO)
        for network in ("mlp", "layer_norm", "simba", "attention", "rnn", "gru", "lstm", "mingru", "minlstm", "lru")
        for obs in ("numbers", "dict", "stacked_images")
    }
    | {
        f"REINFORCE_{network}": Case(REINFORCE(network=network), "dict")
        for network in ("mlp", "simba", "flat", "impala")
    }
)


def moved_actor(agent: Agent, spec: spaces.Spec) -> Actor:
    """What acts, after its parameters and its normalizer have moved away from where they began."""
    actor, random = agent.prepared().init(spec, jax.random.key(0)).actor, np.random.default_rng(0)

    def moved(x: Any) -> Any:
        return x + jnp.asarray(0.05 * random.standard_normal(x.shape), x.dtype)

    policy, statistics = jax.tree.map(moved, actor.policy), actor.obs_statistics
    if statistics is not None:
        variance = 0.5 + jnp.abs(moved(statistics.variance))
        statistics = dataclasses.replace(statistics, mean=moved(statistics.mean), variance=variance)
    return Actor(policy, statistics)


def made(case: Case) -> rlgd.Policy:
    spec = spaces.spec(OBSERVATIONS[case.obs], ALL_ACTIONS[case.action])
    return rlgd.Policy(case.agent, spec, moved_actor(case.agent, spec))


def observations(space: Space[Any], number: int) -> Any:
    space.seed(0)
    blank: Any = create_empty_array(space, number)
    return concatenate(space, [space.sample() for _ in range(number)], blank)


def prepare(folder: Path, policy: rlgd.Policy, obs: Any, mask: bool = False) -> dict[str, Any]:
    """Export a policy, write inputs beside it, and return what it makes of them itself, by the names of outputs.

    A policy with a memory takes several steps, each of which gives rows of one batch.
    """
    folder.mkdir()
    rlgd.export(policy, folder / "model.onnx", action_mask=mask)
    interface = Interface(policy, mask)
    compiled = jax.jit(interface)
    ports = {port.name: port for port in interface.inputs}
    whole = {"obs" + suffix: np.asarray(leaf) for suffix, leaf in by_suffix(obs).items()}
    inputs = {name: leaf for name, leaf in whole.items() if name in ports}  # without what the critic alone reads
    number, random = len(next(iter(inputs.values()))), np.random.default_rng(1)
    if mask:
        inputs[MASK] = random.random((number, *ports[MASK].shape)) > 0.4
    given, expected = [], []
    for step in range(STEPS if MEMORY in ports else 1):
        first = np.ones(number, bool) if step == 0 else random.random(number) > 0.7
        if step == 0 and MEMORY in ports:
            inputs[MEMORY] = np.zeros((number, *ports[MEMORY].shape), np.float32)
        if MEMORY in ports:
            inputs[FIRST] = first
        given.append(dict(inputs))
        outputs = compiled({name: np.asarray(x, interface.stored_dtype(ports[name])) for name, x in inputs.items()})
        action = policy(obs, action_mask=inputs.get(MASK), first=first)
        expected.append(outputs | {"action" + suffix: leaf for suffix, leaf in by_suffix(action).items()})
        if MEMORY in ports:
            inputs[MEMORY] = np.asarray(outputs[NEXT_MEMORY])
    np.savez(folder / "inputs.npz", **_rows(given))
    return _rows(expected)


def _rows(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.concatenate([np.asarray(step[name]) for step in steps]) for name in steps[0]}


def run_without_jax(folders: list[Path]) -> None:
    subprocess.run([sys.executable, str(RUNNER), *map(str, folders)], check=True, cwd="/")


def compare(folder: Path, action: spaces.ObsSpec, expected: dict[str, Any]) -> None:
    with np.load(folder / "outputs.npz") as outputs:
        assert outputs.keys() == expected.keys()
        parts = by_suffix(spaces.map_parts(lambda part: np.zeros(0), action))
        assert {"action" + suffix for suffix in parts} <= outputs.keys()
        for name, wanted in expected.items():
            found = outputs[name]
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=name)
                continue
            differ = np.flatnonzero((found != wanted).reshape(len(found), -1).any(axis=1))
            assert len(differ) <= 1e-3 * len(found), name
            for row in differ:  # only where the best two are as good as each other
                assert is_tie(expected, name.removeprefix("action"), int(row), found), (name, row)


def is_tie(expected: dict[str, Any], suffix: str, row: int, found: Any) -> bool:
    """Whether rounding decides between actions."""
    if f"mean{suffix}" in expected:
        return bool(np.abs(found[row] - expected[f"mean{suffix}"][row].reshape(found[row].shape)).max() < 0.5 + 1e-5)
    logits = np.sort(np.append(expected[f"logits{suffix}"][row], 0.0))
    return bool(np.diff(logits).min() < 1e-5)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """``QUICK``, in one process without JAX, on 1,000 observations each."""
    root = tmp_path_factory.mktemp("onnx")
    expected = {
        name: prepare(
            root / name, made(MIXED[name]), observations(OBSERVATIONS[MIXED[name].obs], 1000), MIXED[name].mask
        )
        for name in QUICK
    }
    run_without_jax([root / name for name in QUICK])
    return root, expected


@pytest.mark.parametrize("name", QUICK)
def test_the_same_actions_without_jax(quick: tuple[Path, dict[str, Any]], name: str) -> None:
    root, expected = quick
    compare(root / name, made(MIXED[name]).spec.action, expected[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_space_agent_and_memory(tmp_path: Path, name: str) -> None:
    case = EVERY[name]
    number = 2000 if case.obs == "image" else 10_000
    policy = made(case)
    expected = prepare(tmp_path / name, policy, observations(OBSERVATIONS[case.obs], number), case.mask)
    run_without_jax([tmp_path / name])
    compare(tmp_path / name, policy.spec.action, expected)
    jax.clear_caches()  # the programs of all cases would take more memory maps than a process may have


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Taxi-v4", "Blackjack-v1", "LunarLander-v3"])
def test_10_000_observations_of_an_environment(tmp_path: Path, env_id: str) -> None:
    vector = gymnasium.make_vec(env_id, num_envs=20, vectorization_mode="sync")
    vector.action_space.seed(0)
    seen = [vector.reset(seed=0)[0]]
    for _ in range(499):
        seen.append(vector.step(vector.action_space.sample())[0])
    obs = jax.tree.map(lambda *rows: np.concatenate(rows), *seen)
    agent = PPO(normalize_obs=True, network="gru" if env_id == "Pendulum-v1" else "mlp")
    spec = spaces.spec(vector.single_observation_space, vector.single_action_space)
    vector.close()
    policy = rlgd.Policy(agent, spec, moved_actor(agent, spec))
    expected = prepare(tmp_path / "policy", policy, obs)
    run_without_jax([tmp_path / "policy"])
    compare(tmp_path / "policy", spec.action, expected)


def exported(tmp_path: Path, policy: rlgd.Policy, **options: Any) -> onnx.ModelProto:
    return onnx.load(rlgd.export(policy, tmp_path / "policy.onnx", **options))


def test_what_the_critic_alone_reads_is_no_input() -> None:
    policy = made(MIXED["critic_obs"])
    names = {port.name for port in Interface(policy).inputs}
    obs = observations(OBSERVATIONS["dict"], 3)
    assert names == {f"obs{suffix}" for suffix in by_suffix(obs)} - {"obs.z"}
    without = {name: part for name, part in obs.items() if name != "z"}
    np.testing.assert_array_equal(policy(without), policy(obs))
    single = {name: part[0] for name, part in without.items()}
    np.testing.assert_allclose(policy(single), policy(obs)[0], rtol=1e-5)
    with pytest.raises(UsageError, match="another structure"):
        policy({"z": obs["z"]})


def test_the_model_says_what_it_is(tmp_path: Path) -> None:
    model = exported(tmp_path, made(MIXED["gru"]), about={"environment": "Home-v1"})
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert (model.ir_version, model.producer_name, model.producer_version) == (8, "rlgd", rlgd.__version__)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["environment"] == "Home-v1"
    assert spaces.from_json(json.loads(about["spaces"])) == made(MIXED["gru"]).spec
    assert [port["name"] for port in json.loads(about["inputs"])] == [entry.name for entry in model.graph.input]
    assert [entry.name for entry in model.graph.input] == ["obs", FIRST, MEMORY]
    assert {"action", "mean", "log_std", NEXT_MEMORY} == {entry.name for entry in model.graph.output}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_weights_have_their_names_and_nothing_of_training_is_inside(tmp_path: Path) -> None:
    model = exported(tmp_path, made(Case(PPO(normalize_obs=True))))
    names = {tensor.name for tensor in model.graph.initializer}
    assert {name for name in names if name.startswith("policy.network")} >= {
        "policy.network.Dense_0.kernel",
        "policy.network.Dense_0.bias",
    }
    assert [node.op_type for node in model.graph.node].count("MatMul") == 3
    assert len(model.graph.node) <= 16


def test_a_network_of_nnx_and_a_pair_of_functions(tmp_path: Path) -> None:
    def init(key: jax.Array, features: Any) -> Any:
        return {"w": jax.random.normal(key, (features.vector.shape[-1], 8))}

    def apply(params: Any, features: Any) -> jax.Array:
        return jnp.sin(features.vector @ params["w"])

    networks: dict[str, Any] = {"nnx": OwnNNX, "pair": (init, apply)}
    expected = {}
    for name, network in networks.items():
        policy = made(Case(PPO(network=network)))
        expected[name] = prepare(tmp_path / name, policy, observations(OBSERVATIONS["numbers"], 100))
    run_without_jax([tmp_path / name for name in networks])
    for name in networks:
        compare(tmp_path / name, policy.spec.action, expected[name])


def test_computing_in_bfloat16_is_exported_in_float32(tmp_path: Path) -> None:
    policy, exact = (made(Case(PPO(compute_dtype=dtype))) for dtype in ("bfloat16", "float32"))
    obs = observations(OBSERVATIONS["numbers"], 100)
    expected = prepare(tmp_path / "exact", exact, obs)
    prepare(tmp_path / "policy", policy, obs)
    run_without_jax([tmp_path / "policy"])
    compare(tmp_path / "policy", exact.spec.action, expected)


def test_a_network_without_a_rule_says_which_layer_and_how_to_give_one(tmp_path: Path) -> None:
    class Highest(linen.Module):
        @linen.compact
        def __call__(self, features: Features) -> jax.Array:
            return jax.lax.cummax(linen.Dense(4)(features.vector), axis=1)

    policy = made(Case(PPO(network=Highest)))
    with pytest.raises(UsageError, match=r"the layer .*Highest.* computes 'cummax'.*rules=\{'cummax': rule\}"):
        rlgd.export(policy, tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())

    def rule(graph: Graph, eqn: Any, x: Any) -> Any:
        columns = graph.add("Split", graph.whole(x), outputs=4, axis=1)
        for n in range(1, 4):
            columns[n] = graph.add("Max", columns[n - 1], columns[n])
        return graph.result(graph.add("Concat", *columns, axis=1), eqn.outvars[0].aval)

    assert exported(tmp_path, policy, rules={"cummax": rule}).graph.node

    def wrong(graph: Graph, eqn: Any, x: Any) -> Any:
        return x

    with pytest.raises(UsageError, match=r"does not act as the policy does: .*; a rule that was given is wrong"):
        rlgd.export(policy, tmp_path / "wrong.onnx", rules={"cummax": wrong})


def test_what_depends_on_the_batch_in_a_way_that_onnx_cannot_is_refused(tmp_path: Path) -> None:
    class Edges(linen.Module):
        @linen.compact
        def __call__(self, features: Features) -> jax.Array:
            return jnp.linalg.inv(features.vector[:, :2, None] * features.vector[:, None, :2]).reshape(-1, 4)

    policy = made(Case(PPO(network=Edges)))
    with pytest.raises(UsageError, match="cannot be written as"):
        rlgd.export(policy, tmp_path / "policy.onnx")


def test_bad_input_is_refused(tmp_path: Path) -> None:
    policy = made(Case(PPO(), action="box"))
    with pytest.raises(UsageError, match="format of a policy"):
        rlgd.export(policy, tmp_path / "policy.onx")
    with pytest.raises(UsageError, match="have no masks"):
        rlgd.export(policy, tmp_path / "policy.onnx", action_mask=True)
    rlgd.export(policy, tmp_path / "policy.onnx")
    with pytest.raises(UsageError, match="exists already"):
        rlgd.export(policy, tmp_path / "policy.onnx")
    rlgd.export(policy, tmp_path / "policy.onnx", overwrite=True)
