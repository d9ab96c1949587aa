"""How a command sets JAX up, each time in a process of its own: settings act before JAX starts."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlgd.cli import main
from rlgd.system import machine

SCRIPT = """
import json, os, sys
from rlgd.agents import PPO
from rlgd.cli import jax_setup
from rlgd.cli.options import Computing
from rlgd.envs import make
from rlgd.run import RunConfig, RunSettings
from rlgd.system import machine

def set_up(given):
    os.environ.update(given["variables"])
    machine.may_have_gpu = lambda: given["gpu"]
    agent = PPO(hidden_sizes=given["hidden_sizes"])
    config = RunConfig(agent, make("CartPole-v1"), RunSettings(1000))
    jax_setup.set_up(config, Computing(given["device"], given["deterministic"], given["autotune"], given["precision"]))
    import jax
    found = [os.environ.get("PJRT_NPROC"), os.environ.get("XLA_FLAGS"), jax.config.jax_default_matmul_precision]
    print(json.dumps(found), flush=True)

for given in json.loads(sys.argv[1]):
    if not (process := os.fork()):
        set_up(given)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
"""
GIVEN: dict[str, Any] = {
    **{"gpu": False, "device": None, "deterministic": False, "autotune": None, "precision": None},
    **{"hidden_sizes": (64,), "variables": {}},
}
LEVEL_0, DETERMINISTIC = "--xla_gpu_autotune_level=0", "--xla_gpu_deterministic_ops=true"


CASES: list[tuple[dict[str, Any], list[Any]]] = [
    ({}, ["1", LEVEL_0, None]),
    ({"gpu": True}, [None, LEVEL_0, None]),  # it would compile in one thread
    ({"gpu": True, "device": "cpu"}, ["1", LEVEL_0, None]),
    ({"gpu": True, "variables": {"JAX_PLATFORMS": "cpu"}}, ["1", LEVEL_0, None]),
    ({"gpu": True, "hidden_sizes": (512,)}, [None, None, None]),
    ({"hidden_sizes": (512,), "autotune": "off", "deterministic": True}, [None, f"{DETERMINISTIC} {LEVEL_0}", None]),
    ({"autotune": "on", "precision": "highest"}, ["1", None, "highest"]),
    ({"variables": {"XLA_FLAGS": "--xla_gpu_autotune_level=2"}}, ["1", "--xla_gpu_autotune_level=2", None]),
    ({"variables": {"XLA_FLAGS": LEVEL_0}, "autotune": "on"}, ["1", f"{LEVEL_0} --xla_gpu_autotune_level=4", None]),
]


def test_what_is_set() -> None:
    """Each case in a fork of one process in which JAX has not started."""
    own = ("PJRT_NPROC", "XLA_FLAGS", "JAX_PLATFORMS")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    command = [sys.executable, "-c", SCRIPT, json.dumps([GIVEN | given for given, _ in CASES])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [expected for _, expected in CASES]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--autotune", "unknown autotune 'maybe'; known: off, on."),
        ("--matmul-precision", "unknown matmul_precision 'maybe'; known: default, high, highest."),
        ("--device", "unknown device 'maybe'; known: cpu, gpu."),
    ],
)
def test_a_word_that_is_not_allowed_is_named(flag: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "a2c", "--env", "CartPole-v1", flag, "maybe"]) == 2
    assert message in capsys.readouterr().err


def test_a_gpu_takes_a_plugin_and_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: dict[str, list[str]] = {"jax_plugins": []}
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found[group])
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    (tmp_path / "nvidia0").touch()
    assert not machine.may_have_gpu()
    found["jax_plugins"] = ["xla_cuda12"]
    assert machine.may_have_gpu()
    (tmp_path / "nvidia0").rename(tmp_path / "nvidiactl")
    assert not machine.may_have_gpu()
