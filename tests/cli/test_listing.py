"""``rlgd list``."""

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
