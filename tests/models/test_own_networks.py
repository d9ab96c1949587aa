"""Networks of users: flax Linen and NNX modules, pairs of functions, with and without a memory; and ours beside."""

import functools
import json
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import Array

import rlgd
from rlgd import plugins
from rlgd.agents import A2C, PPO, REINFORCE, TRPO, make_agent
from rlgd.agents import check as check_agent
from rlgd.errors import UsageError
from rlgd.hyperparameters import from_dict, to_dict, with_values
from rlgd.models import Torso, check
from rlgd.models.networks import memory_layer, network
from rlgd.pytrees import Features, Params
from rlgd.spaces import BoxSpec, DictSpec, DiscreteSpec, Spec
from tests.plugin.rlgd_plugin.networks import Differences
from tests.support.marks import quick

SMALL: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "measure_every": 0}


class Linen(linen.Module):
    width: int = 8

    @linen.compact
    def __call__(self, features: Features) -> Array:
        return jnp.tanh(linen.Dense(self.width)(features.vector))


class Nnx(nnx.Module):
    def __init__(self, features: Features, rngs: nnx.Rngs, width: int = 8) -> None:
        self.layer = nnx.Linear(features.vector.shape[-1], width, rngs=rngs)

    def __call__(self, features: Features) -> Array:
        return jnp.tanh(self.layer(features.vector))


class Remembering(linen.Module):
    """A tanh layer with a memory of its own."""

    memory_size = 8

    @linen.compact
    def __call__(self, features: Features) -> tuple[Array, Array]:
        inputs, kernel = linen.Dense(8)(features.vector), self.param("kernel", jax.nn.initializers.normal(0.5), (8, 8))

        def step(memory: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            memory = jnp.tanh(row[0] + jnp.where(row[1][:, None], 0, memory) @ kernel)
            return memory, memory

        if features.first.ndim == 1:  # type: ignore[union-attr]
            return step(features.memory, (inputs, features.first))  # type: ignore[arg-type]
        by_time = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (inputs, features.first))
        hidden = jnp.swapaxes(jax.lax.scan(step, features.memory, by_time)[1], 0, 1)
        return hidden, hidden


def begin(key: Array, features: Features) -> Any:
    return {"kernel": jax.random.normal(key, (features.vector.shape[-1], 8))}


def hidden(params: Any, features: Features) -> Array:
    return jnp.tanh(features.vector @ params["kernel"])


NETWORKS = {
    "class": Linen,
    "instance": Linen(width=16),
    "function": lambda: Linen(4),
    "nnx": Nnx,
    "nnx-partial": functools.partial(Nnx, width=5),
    "pair": (begin, hidden),
    "torso": Torso(begin, hidden),
    "memory": Remembering,
}


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_used", {})
    monkeypatch.setattr(plugins, "_trusted", set())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_a_user_passes_the_checks(name: str) -> None:
    check(NETWORKS[name])


@pytest.mark.parametrize("name", quick(["memory"], ["class", "nnx-partial", "pair", "memory"]))
def test_an_agent_with_it_keeps_the_contract_and_trains(name: str) -> None:
    agent = A2C(network=NETWORKS[name], **SMALL)
    assert agent.hidden_sizes == ()  # the layers of the user are all
    assert agent.is_recurrent == (name == "memory")
    result = rlgd.train(agent, "CartPole-v1", total_timesteps=128)
    assert result.steps == 128


@pytest.mark.slow
@pytest.mark.parametrize("agent", [PPO, TRPO, A2C])
@pytest.mark.parametrize("name", [*NETWORKS, "simba", "layer_norm", "attention"])
def test_the_contract_with_every_agent_and_network(agent: Any, name: str) -> None:
    sizes = SMALL | ({} if agent is A2C else {"num_minibatches": 2}) | {"measure_every": 1}
    if agent is TRPO:  # of few rows the Fisher matrix has small eigenvalues, which magnify rounding
        sizes |= {"cg_damping": 1.0}
    check_agent(agent(network=NETWORKS.get(name, name), **sizes))


@pytest.mark.slow
def test_policy_and_value_function_may_have_different_networks() -> None:
    spec = Spec(BoxSpec((4,), "float32"), DiscreteSpec(2), max_episode_steps=32)
    mixed = PPO(network="gru", value_network="mlp", memory_width=4, hidden_sizes=(6,), **SMALL, num_minibatches=2)
    check_agent(mixed)
    params = mixed.prepared().init(spec, jax.random.key(0)).params
    assert "RecurrentLayer_0" in params.policy["network"]
    assert set(params.value) == {"Dense_0", "OutputLayer_0"}
    own = PPO(network="mlp", value_network=Remembering, hidden_sizes=(6,), **SMALL, num_minibatches=2)
    check_agent(own)
    assert own.is_recurrent


@pytest.mark.parametrize("network", quick([Linen], ["mlp", "gru", Linen, "impala"]))
def test_policy_and_value_function_may_be_one_network(network: Any) -> None:
    image = network == "impala"
    spec = Spec(BoxSpec((10, 10, 1) if image else (4,), "float32"), DiscreteSpec(2), max_episode_steps=32)
    agent = A2C(network=network, value_network="policy", hidden_sizes=(6,), **SMALL | {"measure_every": 1})
    if not image:  # convolutions differ in the last digits, and Adam makes much of that
        check_agent(agent, spec)
    prepared = agent.prepared()
    params = prepared.init(spec, jax.random.key(0)).params
    assert set(params.value) == {"kernel", "bias"}
    features = Features(jnp.ones((3, 0 if image else 4)), (jnp.ones((3, 10, 10, 1)),) if image else ())
    if agent.is_recurrent:
        memory = jnp.zeros((3, 64))
        features = features._replace(first=jnp.ones(3, bool), memory=Params(memory, memory))
    gradient = jax.grad(lambda params: prepared.value(spec, params, features).sum())(params)
    moved = [bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient.policy["network"])]
    assert any(moved)
    assert not all(moved)  # the policy's outputs stay


def test_what_cannot_share_is_refused() -> None:
    with pytest.raises(UsageError, match="the value function is fitted alone"):
        TRPO(value_network="policy").validate()
    with pytest.raises(UsageError, match="whose layers do not read these parts"):
        PPO(value_network="policy", critic_obs=("state",)).validate()


@pytest.mark.slow
def test_a_critic_reads_parts_that_the_policy_does_not() -> None:
    seen = DictSpec((("image", BoxSpec((8, 8, 1), "uint8")), ("own", BoxSpec((2,), "float32")),
                     ("state", BoxSpec((3,), "float32"))))  # fmt: skip
    spec = Spec(seen, DiscreteSpec(2), max_episode_steps=32)
    agent = PPO(critic_obs=("image", "state"), hidden_sizes=(4,), **SMALL, num_minibatches=2)
    check_agent(agent, spec)
    params = agent.prepared().init(spec, jax.random.key(0)).params
    assert params.policy["network"]["Dense_0"]["kernel"].shape == (2, 4)
    assert "ImageReader_0" in params.value
    obs = {"image": np.zeros((1, 8, 8, 1), np.uint8), "own": np.ones((1, 2), np.float32)}
    features = [agent.features(spec, None, obs | {"state": np.full((1, 3), x, np.float32)}) for x in (0, 9)]
    logits = [agent.distribution(spec, params.policy, each).log_prob(jnp.zeros(1, int)) for each in features]
    assert logits[0] == logits[1]
    assert agent.value(spec, params, features[0]) != agent.value(spec, params, features[1])
    for wrong, message in ((("nope",), "'nope', but the parts .* 'image', 'own', 'state'"),
                           (("image", "own", "state"), "nothing is left that the policy reads")):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            PPO(critic_obs=wrong).networks(spec)
    with pytest.raises(UsageError, match="they are no Dict"):
        rlgd.train(A2C(critic_obs=("state",)), "CartPole-v1", total_timesteps=64)


def test_privileged_parts_are_the_critics_alone() -> None:
    parts = (("privileged_state", BoxSpec((3,), "float32")), ("state", BoxSpec((2,), "float32")))

    def inputs(obs: Any, **settings: Any) -> tuple[int, ...]:
        """How many numbers the first layers of policy and value function read."""
        agent = PPO(hidden_sizes=(4,), **SMALL, num_minibatches=2, **settings).prepared()
        params = agent.init(Spec(obs, DiscreteSpec(2), max_episode_steps=32), jax.random.key(0)).params
        trees = [tree.get("network", tree) for tree in (params.policy, params.value)]
        return tuple(tree["Dense_0"]["kernel"].shape[0] for tree in trees if "Dense_0" in tree)

    assert inputs(DictSpec(parts)) == (2, 5)
    assert inputs(DictSpec(parts), critic_obs=("state",)) == (3, 5)
    assert inputs(DictSpec(parts[:1])) == (3, 3)
    assert inputs(DictSpec(parts), value_network="policy")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simba", "layer_norm", "attention"])
def test_networks_of_ours_are_rows_or_sequences(name: str) -> None:
    layer = memory_layer(name, 8, 3)
    ours = network(4, 5, (8, 8), kind=name, memory=layer)
    size = None if layer is None else layer.memory_size
    as_torso = Torso(
        lambda key, features: ours.init(key),
        (lambda params, x: ours.apply(params, x))
        if size is None
        else lambda params, x: (ours.read(params, x).outputs, ours.read(params, x).memory),
        size,
    )
    check(as_torso)


def test_attention_sees_its_window_and_nothing_before() -> None:
    layer = memory_layer("attention", 8, 3)
    attention = network(2, 1, (), kind="attention", memory=layer)
    params = attention.init(jax.random.key(0))
    vector = jax.random.normal(jax.random.key(1), (1, 6, 2))
    first = jnp.zeros((1, 6), bool).at[0, 0].set(True)

    def outputs(vector: Array, first: Array = first) -> Any:
        assert layer is not None
        features = Features(vector, first=first, memory=jnp.zeros((1, layer.memory_size)))
        return np.asarray(attention.apply(params, features))[0, :, 0]

    changed = outputs(vector.at[0, 1].add(1.0)) != outputs(vector)
    assert changed.tolist() == [False, True, True, True, False, False]
    in_two = outputs(vector.at[0, 1].add(1.0), first.at[0, 2].set(True)) != outputs(vector, first.at[0, 2].set(True))
    assert in_two.tolist() == [False, True, False, False, False, False]


def test_impala_reads_images_alone() -> None:
    spec = Spec(BoxSpec((10, 10, 4), "bool"), DiscreteSpec(3), max_episode_steps=32)
    agent = A2C(network="impala", hidden_sizes=(8,), **SMALL).prepared()
    params = agent.init(spec, jax.random.key(0)).params
    assert params.value["ResidualReader_0"]["Conv_5"]["kernel"].shape == (3, 3, 16, 32)
    assert params.value["mlp"]["Dense_0"]["kernel"].shape == (2 * 2 * 32, 8)
    obs = jax.random.bernoulli(jax.random.key(1), 0.5, (3, 10, 10, 4))
    assert agent.value(spec, params, agent.features(spec, None, obs)).shape == (3,)
    with pytest.raises(UsageError, match="hold no image"):
        rlgd.train(A2C(network="impala"), "CartPole-v1", total_timesteps=64)


def test_flat_reads_images_as_plain_numbers() -> None:
    seen = DictSpec((("image", BoxSpec((10, 10, 4), "uint8")), ("own", BoxSpec((2,), "float32"))))
    spec = Spec(seen, DiscreteSpec(3), max_episode_steps=32)
    agent = A2C(network="flat", hidden_sizes=(8,), activation="relu", **SMALL).prepared()
    params = agent.init(spec, jax.random.key(0)).params
    assert params.value.keys() == {"mlp"}
    layers = params.value["mlp"]
    kernel = layers["Dense_0"]["kernel"]
    assert kernel.shape == (402, 8)
    assert agent.num_weights(spec) == (402 * 8 + 8, 402 * 8 + 8)
    image, numbers = jax.random.randint(jax.random.key(1), (3, 10, 10, 4), 0, 256).astype(jnp.uint8), jnp.ones((3, 2))
    inputs = jnp.concatenate([numbers, image.reshape(3, 400).astype(jnp.float32) / 255], axis=1)
    outputs = layers["OutputLayer_0"]
    expected = jax.nn.relu(inputs @ kernel) @ outputs["kernel"].T + outputs["bias"][None]
    found = agent.value(spec, params, agent.features(spec, None, {"image": image, "own": numbers}))
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="'flat', but the observations it reads hold no image"):
        rlgd.train(A2C(network="flat"), "CartPole-v1", total_timesteps=64)


def test_the_blocks_of_simba_have_one_width() -> None:
    for field in ("network", "value_network"):
        with pytest.raises(
            UsageError, match=rf"hidden_sizes is \(8, 4\), but {field} is 'simba', whose blocks are all of"
        ):
            make_agent("a2c", hidden_sizes=(8, 4), **{field: "simba"})
    make_agent("a2c", hidden_sizes=(8, 8), value_network="simba")


@pytest.mark.parametrize("named", ["mlp", "layer_norm", "simba"])
def test_beside_a_network_of_a_user_a_named_one_needs_layers(named: str) -> None:
    with pytest.raises(UsageError, match=f"value_network '{named}' has no layer; give hidden_sizes"):
        A2C(network=Linen, value_network=named).validate()
    A2C(network=Linen, value_network=named, hidden_sizes=(4, 4)).validate()
    A2C(network=Linen, value_network="gru").validate()  # it has a layer of its own
    with pytest.raises(UsageError, match=f"network '{named}' has no layer"):
        A2C(network=named, value_network=Linen, hidden_sizes=()).validate()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simba", "memory", "nnx"])
def test_bfloat16_leaves_parameters_and_results_alone(name: str) -> None:
    agent = A2C(network=NETWORKS.get(name, name), compute_dtype="bfloat16", **SMALL)
    state = rlgd.train(agent, "CartPole-v1", total_timesteps=64).state.agent_state
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}


# ---------------------------------------------------------------------------------------------- names and files


def test_layers_after_those_of_the_user_are_given_by_name() -> None:
    assert PPO(network=Linen).hidden_sizes == ()
    assert PPO(network=Linen, hidden_sizes=(3,)).hidden_sizes == (3,)
    assert with_values(PPO(hidden_sizes=(32,)), {"network": Linen}).hidden_sizes == ()
    assert PPO(network="simba").hidden_sizes == (64, 64)


def test_a_run_is_loaded_and_resumed_with_its_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    rlgd.train(A2C(network=Linen(width=5), **SMALL), "CartPole-v1", total_timesteps=64, run_dir=run, eval_episodes=1)
    name = f"{__name__}:Linen(width=5)"
    assert json.loads((run / "config.json").read_text())["hyperparameters"]["network"] == name
    assert rlgd.load(run)  # what this process trained
    monkeypatch.setattr(plugins, "_used", {})  # as in another process
    with pytest.raises(UsageError, match=r"was an object of Python; give it again"):
        rlgd.load(run)
    with pytest.raises(UsageError, match=r"Linen\(width=8\)' was given"):
        rlgd.load(run, network=Linen())
    policy = rlgd.load(run, network=Linen(width=5))
    assert policy(np.zeros(4, np.float32)) in (0, 1)
    monkeypatch.setattr(plugins, "_used", {})
    rest = rlgd.resume(run, network=Linen(width=5), total_timesteps=128)
    assert rest.steps == 128


def test_a_name_in_a_file_imports_nothing(tmp_path: Path) -> None:
    values = to_dict(A2C()) | {"network": "antigravity:Torso"}
    agent = from_dict(A2C(), values)
    with pytest.raises(UsageError, match="a file alone imports no code; name it yourself: --trust antigravity"):
        agent.validate()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (3, "the network is 3; expected a flax module"),
        (Nnx(Features(jnp.zeros((1, 4))), rngs=nnx.Rngs(0)), "has parameters already"),
        (lambda width: None, "cannot be called without arguments: missing a required argument: 'width'"),
        (
            lambda: Linen(depth=2),  # type: ignore[call-arg]
            r"the network .*lambda> raises TypeError: .* unexpected keyword argument 'depth'",
        ),
        (lambda: 1 / 0, "raises ZeroDivisionError: division by zero"),
        ("simbad", "unknown network 'simbad'; did you mean 'simba'"),
    ],
)
def test_what_is_no_network(part: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        A2C(network=part).validate()


@pytest.mark.parametrize(
    ("torso", "message"),
    [
        (Torso(begin, lambda params, features: jnp.zeros(3)), r"the network returns \(3,\)"),
        (
            Torso(begin, lambda params, x: hidden(params, x) - _mean(hidden(params, x))),
            "a row has another result",
        ),
        (Torso(lambda key, x: {"kernel": jnp.ones((4, 8))}, hidden), "every key gives the same parameters"),
        (Torso(lambda key, x: begin(key, x) | {"steps": jnp.zeros(1, int)}, hidden), "it returns int32"),
        (Torso(begin, lambda params, x: hidden(params, x) / 0), "not finite"),
        (Torso(begin, lambda params, x: (hidden(params, x),) * 2, 8), "used in it|one by one|clears it"),
    ],
)
def test_what_is_wrong_with_a_network_is_named(torso: Torso, message: str) -> None:
    if "one by one" in message:  # remembers, but never forgets
        torso = Torso(begin, _never_forgets, 8)
    with pytest.raises(UsageError, match=message):
        check(torso)


def _mean(x: Array) -> Array:
    return x.mean(0, keepdims=True)


def _never_forgets(params: Any, features: Features) -> tuple[Array, Array]:
    added = jnp.cumsum(hidden(params, features), axis=1) if features.first.ndim == 2 else hidden(params, features)  # type: ignore[union-attr]
    before = features.memory[:, None] if features.first.ndim == 2 else features.memory  # type: ignore[union-attr]
    return added + before, added + before


class RandomLinen(linen.Module):
    deterministic: bool = False

    @linen.compact
    def __call__(self, features: Features) -> Array:
        return linen.Dropout(0.5, deterministic=self.deterministic)(linen.Dense(8)(features.vector))


class RandomNnx(nnx.Module):
    def __init__(self, features: Features, rngs: nnx.Rngs, deterministic: bool = False) -> None:
        self.layer = nnx.Linear(features.vector.shape[-1], 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=deterministic, rngs=rngs)

    def __call__(self, features: Features) -> Array:
        return self.dropout(self.layer(features.vector))


@pytest.mark.parametrize("module", [RandomLinen, RandomNnx])
def test_layers_that_draw_random_numbers_are_refused_and_deterministic_ones_are_not(module: Any) -> None:
    with pytest.raises(UsageError, match=r"draws random numbers when .*make such layers with deterministic"):
        rlgd.train(A2C(network=module, **SMALL), "CartPole-v1", total_timesteps=64)
    check(functools.partial(module, deterministic=True))


def test_reinforce_has_no_memory() -> None:
    assert REINFORCE(network=Linen).hidden_sizes == ()
    for field, part in (("network", "gru"), ("value_network", "gru"), ("value_network", Remembering)):
        shown = "gru" if part == "gru" else f"{__name__}:Remembering"
        with pytest.raises(UsageError, match=f"^{field} '{shown}' has a memory; REINFORCE learns without one"):
            make_agent("reinforce", **{field: part})


@pytest.mark.parametrize("baseline", ["mean", "none"])
def test_without_a_value_function_reinforce_refuses_what_it_reads(baseline: str) -> None:
    for field, value in (("value_network", "simba"), ("value_network", "policy"), ("critic_obs", ("state",))):
        with pytest.raises(UsageError, match=f"{field} is set, but baseline is '{baseline}', which has no value"):
            make_agent("reinforce", baseline=baseline, **{field: value})


def test_messages_about_a_memory_name_the_network_that_has_it() -> None:
    with pytest.raises(UsageError, match="so value_network 'gru' never learns what to remember"):
        make_agent("a2c", value_network="gru", rollout_length=1)
    with pytest.raises(UsageError, match="does not divide num_envs = 4, the sequences that value_network 'gru' learns"):
        make_agent("ppo", value_network="gru", num_envs=4, num_minibatches=3)


def test_sizes_of_a_memory_need_one() -> None:
    every = "choose one of rnn, gru, lstm, mingru, minlstm, lru, attention"
    for field, message in (("memory_width", every), ("memory_window", "choose one of attention")):
        with pytest.raises(UsageError, match=message):
            make_agent("ppo", **{field: 8})
    make_agent("ppo", network="attention", memory_window=4, num_minibatches=2)


def test_the_document_shows_the_network_of_the_plugin() -> None:
    root = Path(__file__).parents[2]
    code = (root / "tests" / "plugin" / "rlgd_plugin" / "networks.py").read_text()
    assert f"```python\n{code}```" in (root / "docs" / "extending.md").read_text()
    check(Differences)


@pytest.mark.slow
def test_gymnasium_calls_a_policy_with_attention() -> None:
    agent = A2C(network="attention", memory_window=4, memory_width=8, hidden_sizes=(), **SMALL)
    policy = rlgd.train(agent, "CartPole-v1", total_timesteps=64).policy
    env = gymnasium.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    for _ in range(6):
        action = policy(obs)
        assert env.action_space.contains(action)
        obs, *_ = env.step(action)
