"""Every test of this folder works in a folder of its own, with the tiny suite in place of the shipped ones."""

from pathlib import Path

import pytest

from rlgd.agents import presets
from rlgd.cli import jax_setup
from rlgd.reproduction import suite
from tests.support.tiny_suite import PRESETS, SUITE


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "tiny.toml").write_text(SUITE)
    (data / "a2c.toml").write_text(PRESETS)
    monkeypatch.setattr(suite, "FILES", data)
    monkeypatch.setattr(presets, "FOLDER", data)
    monkeypatch.setattr(jax_setup, "set_up", lambda config, computing: None)
    monkeypatch.chdir(tmp_path)
