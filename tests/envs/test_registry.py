"""``make``: from an id or an object to an environment, and what importing the environments costs."""

import subprocess
import sys
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from jax import Array

import rlgd.envs
from rlgd.envs import DeviceEnv, HostEnv
from rlgd.errors import UsageError
from tests.support.probe_envs import MEDLEYS, ScriptedOnDevice

ENV = DeviceEnv(ScriptedOnDevice((1, 2, 3, 5), Discrete(8)), "scripted", 3)


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        ("CartPole-v1", {}),
        ("CartPole-v1", {"max_episode_steps": 7}),
        ("CartPole-v1", {"backend": "host"}),
        ("CartPole-v1", {"sutton_barto_reward": True, "max_episode_steps": 7}),
        ("Acrobot-v1", {}),
        (MEDLEYS["discrete"], {"max_episode_steps": 7}),
    ],
)
def test_equal_arguments_give_equal_environments_and_one_compilation(env: Any, arguments: dict[str, Any]) -> None:
    traces = []

    def width(env: Any, x: Array) -> Array:
        traces.append(env)
        return x

    first, second = (rlgd.envs.make(env, **arguments) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    for made in (first, second):
        jax.jit(width, static_argnums=0)(made, jnp.zeros(3))
    assert len(traces) == 1
    other = rlgd.envs.make(env, **arguments | {"max_episode_steps": 8})
    assert other != first
    assert other.spec.max_episode_steps == 8
    assert first.spec.max_episode_steps == arguments.get("max_episode_steps", 500)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, DeviceEnv),
        ({"backend": "device"}, DeviceEnv),
        ({"backend": "host"}, HostEnv),
        ({"sutton_barto_reward": True}, HostEnv),
        ({"vectorization": "sync"}, HostEnv),
        ({"env_timeout": 5.0}, HostEnv),
    ],
)
def test_the_twin_is_taken_if_it_is_the_same_environment(arguments: dict[str, Any], kind: type) -> None:
    assert type(rlgd.envs.make("CartPole-v1", **arguments)) is kind
    assert type(rlgd.envs.make("CartPole-v0")) is HostEnv
    assert {"CartPole-v1", "Acrobot-v1", "Taxi-v4"} < set(rlgd.envs.device_ids())


def test_arguments_reach_gymnasium() -> None:
    env = rlgd.envs.make("CartPole-v1", sutton_barto_reward=True)
    assert isinstance(env, HostEnv)
    vector = env.open(2)
    vector.reset(0)
    assert not vector.step(np.ones(2, np.int64)).reward.any()


def test_a_made_environment_passes_through() -> None:
    for made in (rlgd.envs.make("CartPole-v1"), rlgd.envs.make("CartPole-v1", backend="host")):
        assert rlgd.envs.make(made) is made


@pytest.mark.parametrize(("name", "version"), [("CartPole", 1), ("MountainCarContinuous", 0), ("phys2d/CartPole", 1)])
def test_a_name_without_a_version_is_the_newest_of_its_namespace(
    name: str, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = "elsewhere/CartPole-v7"
    spec = gymnasium.envs.registration.EnvSpec(elsewhere, "tests.support.probe_envs:Scripted")
    monkeypatch.setitem(gymnasium.registry, elsewhere, spec)
    assert rlgd.envs.make(name).env_id == f"{name}-v{version}"


@pytest.mark.parametrize(
    ("env", "arguments", "message"),
    [
        ("CartPoole-v1", {}, r"unknown environment 'CartPoole-v1'; did you mean .*'CartPole-v1'"),
        ("cartpole-v1", {}, "did you mean 'CartPole-v1'"),
        ("CartPole-v9", {}, "did you mean .*'CartPole-v1'"),
        ("Cart", {}, "unknown environment 'Cart'"),
        ("Scripted", {}, "unknown environment 'Scripted'"),
        ("CartPole-v1", {"backend": "gpu"}, "unknown backend 'gpu'; known: auto, device, host"),
        ("CartPole-v0", {"backend": "device"}, "CartPole-v0 has no twin .*, CartPole-v1, .*Use backend 'host'"),
        ("CartPole-v1", {"backend": "device", "vectorization": "sync"}, "got vectorization or a timeout"),
        ("CartPole-v1", {"vectorization": "synk"}, "unknown vectorization 'synk'; did you mean 'sync'"),
        ("CartPole-v1", {"env_timeout": -1.0}, "timeout of CartPole-v1 is -1.0; allowed"),
        (MEDLEYS["discrete"], {"vectorization": "sync"}, "Medley runs on the device"),
        (3, {}, "3 is not an environment; allowed: a Gymnasium id, "),
        (gymnasium.Env, {"backend": "device"}, "runs on the host"),
        ("gymnax:CartPoole", {}, "gymnax"),
        ("CartPole-v1", {"backend": "device", "sutton_barto_reward": True}, "got sutton_barto_reward"),
        ("CartPole-v1", {"max_episode_steps": 0}, "max_episode_steps is 0; allowed: "),
        ("CartPole-v1", {"max_episode_steps": -1, "backend": "host"}, "max_episode_steps is -1; allowed: "),
        (MEDLEYS["discrete"], {"backend": "host"}, "Medley"),
        (MEDLEYS["discrete"], {"gravity": 1}, "gravity"),
        (ENV, {"max_episode_steps": 7}, "max_episode_steps"),
        (HostEnv("CartPole-v1"), {"backend": "device"}, "backend"),
    ],
)
def test_a_wrong_argument_is_refused(env: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rlgd.envs.make(env, **arguments)


def test_arguments_that_gymnasium_refuses_are_a_usage_error() -> None:
    env = rlgd.envs.make("CartPole-v1", gravity=1)
    with pytest.raises(UsageError, match=r"CartPole-v1 cannot be made: .*gravity"):
        env.spec  # noqa: B018


def loaded_by(code: str) -> set[str]:
    """The packages that a new process has imported after some code."""
    code = f"import sys; {code}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_make_works_right_after_import_rlgd() -> None:
    loaded_by("import rlgd; assert rlgd.envs.make('CartPole-v1').spec.max_episode_steps == 500")
    loaded_by("import rlgd; assert rlgd.envs.functional.CartPoleParams().gravity == 9.8")


def test_an_id_out_of_a_file_imports_nothing_but_ale_py() -> None:
    known = "from rlgd.envs.registry import is_known; assert is_known('CartPole-v1')"
    loaded = loaded_by(f"{known}; assert not any(map(is_known, ['tarfile:Any-v0', 'ale_py:ALE/Pong-v5', 'Nope-v0']))")
    assert not {"ale_py", "tarfile"} & loaded
    pytest.importorskip("ale_py")
    assert "ale_py" in loaded_by(f"{known}; assert is_known('ALE/Pong-v5') and not is_known('ALE/Nope-v5')")


@pytest.mark.parametrize(
    "module",
    [
        "rlgd.envs",
        "rlgd.envs.check",
        "rlgd.envs.check.worker",
        "rlgd.envs.device",
        "rlgd.envs.functional",
        "rlgd.envs.host",
        "rlgd.envs.host.maker",
        "rlgd.envs.host.workers",
        "rlgd.envs.suites",
    ],
)
def test_worker_processes_import_no_jax(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert "gymnasium" in loaded
    assert not {"jax", "flax", "optax", "brax"} & loaded


@pytest.mark.parametrize("name", ["check", "device", "functional", "host", "suites"])
def test_the_faces_have_every_name_that_they_list(name: str) -> None:
    package = __import__(f"rlgd.envs.{name}", fromlist=["*"])
    assert package.__all__
    assert {*package.__all__} <= {*dir(package)}
    for public in package.__all__:
        assert getattr(package, public) is not None


def test_every_twin_is_a_name_of_the_functional_environments() -> None:
    classes = {path.partition(":")[2] for path in rlgd.envs.TWINS.values()}
    assert classes <= {*rlgd.envs.functional.__all__}
