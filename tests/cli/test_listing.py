"""``rlgd list``."""

import importlib.util
import subprocess
import sys

import pytest

from rlgd.cli import catalog, main
from rlgd.envs import SUITES


@pytest.mark.parametrize("what", ["agents", "envs", "optimizers", "sinks"])
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["list", what]) == 0
    out = capsys.readouterr().out
    assert {"agents": "reinforce", "envs": "CartPole-v1", "optimizers": "nesterov", "sinks": "--sink csv"}[what] in out


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m rlgd list optimizers | true; exit ${{PIPESTATUS[0]}}"
    for _ in range(3):  # the reader may be gone before or after the first line
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_every_suite_can_be_listed() -> None:
    assert {*catalog.SUITE_PREFIXES} == {*SUITES}


def test_environments_are_listed_where_their_packages_are_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.main(["list", "envs"]) == 0
    everything = capsys.readouterr().out
    assert {"LunarLander-v3", "Ant-v5"} <= {*everything.split()}
    assert "HalfCheetah-v2" not in everything  # Gymnasium keeps such ids only to say what took their place
    assert "not installed" not in everything
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("Box2D", "ale_py") else found(name))
    assert main.main(["list", "envs"]) == 0
    table, _, legend = capsys.readouterr().out.partition("not installed: ")
    assert "LunarLander-v3" not in table
    assert "Ant-v5" in table
    assert "BipedalWalker-v3 and 4 more; pip install 'rlgd[box2d]'" in legend
    assert "ALE/Pong-v5 and the other games of the Atari 2600; pip install 'rlgd[atari]'" in legend
