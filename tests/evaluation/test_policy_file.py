"""Policies in files: what was saved acts again, and a file from a stranger does nothing."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Space, Tuple

import rlgd.spaces
from rlgd import plugins
from rlgd.agents import A2C, NPG, PPO, REINFORCE, TRPO, Agent
from rlgd.ascent import Ascent
from rlgd.cli import main
from rlgd.errors import RlgdError, StorageFault, UsageError
from rlgd.evaluation import Policy
from rlgd.hyperparameters import hyperparameters, traced
from rlgd.pytrees import Actor
from rlgd.spaces import Spec
from tests.support.spaces import ACTIONS

OBSERVATIONS = Dict(
    {
        "image": Box(0, 255, (12, 12, 3), np.uint8),
        "of.many": Tuple((Discrete(3), MultiBinary(2))),
        "speed": Box(-1, 1, ()),
    }
)


def policy_of(agent: Agent, obs: Space[Any] = OBSERVATIONS, action: Space[Any] = ACTIONS["discrete"]) -> Policy:
    spec = rlgd.spaces.spec(obs, action, 100)
    return Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)


def actions(policy: Policy) -> Any:
    """Actions at several observations, one after the other, greedy and sampled."""
    rng = np.random.default_rng(0)
    policy = policy.copy()
    seen = []
    for key in range(3):
        obs = {
            "image": rng.integers(0, 255, (4, 12, 12, 3)),
            "of.many": (rng.integers(0, 3, 4), rng.integers(0, 2, (4, 2))),
            "speed": rng.uniform(-1, 1, 4),
        }
        seen += [policy(obs), policy(obs, deterministic=False, key=key)]
    return seen


AGENTS: dict[str, tuple[Agent, str]] = {
    "normalized": (PPO(hidden_sizes=(8,), normalize_obs=True), "several"),
    "lstm": (PPO(hidden_sizes=(8,), network="lstm", memory_width=4), "bits_in_a_matrix"),
    "gsde": (A2C(hidden_sizes=(8,), box_std="gsde"), "box"),
    "beta": (TRPO(hidden_sizes=(8,), box_distribution="beta"), "matrix"),
    "linear": (NPG(hidden_sizes=()), "float64"),
    "whole": (REINFORCE(hidden_sizes=(8,)), "from_minus_1"),
    "federated": (PPO(hidden_sizes=(8,), ascent=Ascent(sync_every=2, climbers=2, outer_momentum=0.5)), "integers"),
}


@pytest.mark.parametrize("kind", AGENTS)
def test_it_acts_as_before(kind: str, tmp_path: Path) -> None:
    agent, space = AGENTS[kind]
    policy = policy_of(agent, action=ACTIONS[space])
    policy.save(tmp_path / "policy")
    again = Policy.load(tmp_path / "policy")
    assert again.spec == policy.spec
    assert again.agent == policy.agent
    jax.tree.map(np.testing.assert_array_equal, again.actor, policy.actor)
    for before, now in zip(actions(policy), actions(again), strict=True):
        np.testing.assert_array_equal(before, now)


def test_a_trained_policy_leaves_its_run(tmp_path: Path) -> None:
    agent = A2C(num_envs=4, rollout_length=16, hidden_sizes=(8,), normalize_obs=True)
    result = rlgd.train(agent, "CartPole-v1", total_timesteps=256)
    result.policy.save(str(tmp_path / "policy"))
    again = Policy.load(str(tmp_path / "policy"))
    played = [rlgd.evaluate(policy, "CartPole-v1", episodes=4).returns for policy in (result.policy, again)]
    np.testing.assert_array_equal(played[0], played[1])
    first = (tmp_path / "policy").read_bytes()
    again.save(tmp_path / "policy")
    assert (tmp_path / "policy").read_bytes() == first


def test_the_commands_play_a_policy_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policy"
    policy = rlgd.train(A2C(num_envs=4, hidden_sizes=(8,)), "CartPole-v1", total_timesteps=64).policy
    policy.save(path)
    words = ["--env", "CartPole-v1", "--episodes", "3", "--seed", "5", "--max-steps", "30"]
    assert main.main(["eval", str(path), *words, "--json"]) == 0
    expected = rlgd.evaluate(policy, "CartPole-v1", episodes=3, seed=5, max_steps=30)
    assert json.loads(capsys.readouterr().out)["returns"] == expected.returns.tolist()
    assert main.main(["play", str(path), *words, "--video", str(tmp_path / "policy.gif")]) == 0
    assert "curves:" not in capsys.readouterr().out  # there are none
    assert (tmp_path / "policy.gif").stat().st_size > 0
    assert {each.name for each in tmp_path.iterdir()} == {"policy", "policy.gif"}


@pytest.mark.parametrize("command", ["eval", "play"])
def test_what_the_commands_need_beside_the_file(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, own, env = str(tmp_path / "policy"), str(tmp_path / "own"), ["--env", "CartPole-v1"]
    for agent, name in ((A2C(hidden_sizes=()), path), (Mine(hidden_sizes=()), own)):
        policy_of(agent, Box(-1, 1, (4,)), Discrete(2)).save(name)
    monkeypatch.setattr(plugins, "_used", {})
    for words, message in (
        ([path], "does not say its environment; name it, as --env CartPole-v1"),
        ([path, *env, "--checkpoint", "best"], "has no checkpoints; leave --checkpoint out"),
        ([own, *env], "a file alone imports no code; name it yourself: --trust"),
        ([__file__, *env], "is no policy that rlgd saved"),
        ([path, "--env", "Pendulum-v1"], "Pendulum-v1 does not fit the policy"),
    ):
        assert main.main([command, *words]) == 2
        assert message in capsys.readouterr().err


@hyperparameters
class Mine(A2C):
    """An agent of a user."""

    boldness: float = traced(1.0, "nothing", "[0, inf)")


def test_a_file_alone_imports_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy"
    policy_of(Mine(hidden_sizes=(), boldness=2.0), Discrete(2)).save(path)
    assert isinstance(Policy.load(path).agent, Mine)  # this process wrote it
    monkeypatch.setattr(plugins, "_used", {})
    with pytest.raises(UsageError, match=r"is not part of rlgd, and a file alone imports no code; .* agent=Mine"):
        Policy.load(path)
    with pytest.raises(UsageError, match="but 'ppo' was given"):
        Policy.load(path, agent=PPO)
    policy = Policy.load(path, agent=Mine)
    assert isinstance(policy.agent, Mine)
    assert policy.agent.boldness == 2
    with pytest.raises(UsageError, match="boldness: no such part of the agent; give objects"):
        Policy.load(path, boldness=3)


def test_another_policy_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    policy = policy_of(A2C(hidden_sizes=()), Discrete(2))
    path = tmp_path / "policy"
    policy.save(path)
    policy_of(A2C(hidden_sizes=(4,)), Discrete(2)).save(path)
    assert Policy.load(path).agent.hidden_sizes == (4,)
    path.write_text("a letter")
    with pytest.raises(UsageError, match="is in the way, and is no policy; name another file"):
        policy.save(path)
    assert path.read_text() == "a letter"
    with pytest.raises(StorageFault, match="cannot be written: No such file or directory"):
        policy.save(tmp_path / "nowhere" / "policy")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(StorageFault, match="there is a symbolic link"):
        policy.save(tmp_path / "link")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(UsageError, match="cannot be read: No such file or directory"):
        Policy.load(path)
    with pytest.raises(UsageError, match=r"is a folder; the policy of a run is read by rlgd\.load\('"):
        Policy.load(tmp_path)
    foreign = [
        b"",
        b"{}",
        b"\xff" * 20,
        pickle.dumps({"a": 1}),
        b"\x02" + b"\0" * 7 + b"{}",
        b"\x02" + b"\0" * 7 + b"[]",
    ]
    for content in foreign:
        path.write_bytes(content)
        with pytest.raises(UsageError, match="is no policy that rlgd saved"):
            Policy.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.json", "{}")
    with pytest.raises(UsageError, match="is no policy that rlgd saved"):
        Policy.load(path)


def test_damage_is_named_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    policy = policy_of(A2C(hidden_sizes=()), Discrete(2))
    policy.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RlgdError, match=str(path)):
            Policy.load(path)
        path.write_bytes(whole[:place])
        with pytest.raises(RlgdError):
            Policy.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(StorageFault, match="is damaged: its SHA-256 differs"):
        Policy.load(path)


def changed(path: Path, **changes: Any) -> None:
    """Change what a file says of its agent, with a digest that is right."""
    from rlgd.evaluation import policy_file

    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    text = json.dumps(json.loads(header["__metadata__"]["rlgd"]) | changes)
    header["__metadata__"] |= {"rlgd": text, "sha256": policy_file._digest(text, data)}
    new = json.dumps(header).encode()
    path.write_bytes(len(new).to_bytes(8, "little") + new + data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "in a format that this version cannot read"),
        ({"agent": "os:system"}, "a file alone imports no code"),
        ({"agent": 3}, "agent is a whole number; expected text"),
        ({"hyperparameters": {"hidden_sizes": [100_000, 100_000]}}, "which does not fit its agent"),
        ({"hyperparameters": {"gamma": 7}}, "gamma is 7; allowed"),
        ({"spec": {}}, "is damaged: KeyError"),
    ],
)
def test_a_forged_file_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "policy"
    policy_of(A2C(hidden_sizes=()), Discrete(2)).save(path)
    changed(path, **changes)
    with pytest.raises((StorageFault, UsageError), match=message):
        Policy.load(path)


def test_the_layout_is_that_of_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    policy = policy_of(PPO(hidden_sizes=(8,), normalize_obs=True))
    policy.save(tmp_path / "policy")
    arrays = safetensors.load_file(tmp_path / "policy")
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(policy.actor)]
    assert sorted(array.tobytes() for array in arrays.values()) == sorted(leaf.tobytes() for leaf in leaves)


def test_arrays_of_every_type_and_random_keys_come_back(tmp_path: Path) -> None:
    """Of agents of users, whose policies may have any arrays."""

    @hyperparameters
    class Odd(A2C):
        """Acts with more than parameters."""

        def init(self, spec: Spec, key: jax.Array) -> Any:
            state = super().init(spec, key)
            extra = {"half": jax.numpy.ones(3, "bfloat16"), "key": key, "flags": jax.numpy.array([True, False])}
            return Extra(state, Actor((state.actor.policy, extra), None))

    class Extra:
        def __init__(self, state: Any, actor: Actor) -> None:
            self.state, self.actor = state, actor

    jax.tree_util.register_pytree_node(Extra, lambda x: ((x.state, x.actor), None), lambda _, xs: Extra(*xs))
    policy = policy_of(Odd(hidden_sizes=()), Discrete(2))
    policy.save(tmp_path / "policy")
    again = Policy.load(tmp_path / "policy", agent=Odd)
    for before, now in zip(jax.tree.leaves(policy.actor), jax.tree.leaves(again.actor), strict=True):
        assert before.dtype == now.dtype
        plain = [jax.random.key_data(x) if x.dtype.name.startswith("key") else x for x in (before, now)]
        np.testing.assert_array_equal(plain[0], plain[1])
