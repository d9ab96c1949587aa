"""The names in a run directory, and of run directories."""

import time
from pathlib import Path

import pytest

from rlgd.errors import UsageError
from rlgd.run import layout


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "20260102-030405")


def test_an_environment_s_folder_is_one_folder() -> None:
    assert layout.folder_name("ALE/Pong-v5") == "ALE-Pong-v5"
    assert layout.folder_name("brax:ant") == "brax-ant"


@pytest.mark.usefixtures("clock")
def test_runs_of_the_same_second_are_numbered(tmp_path: Path) -> None:
    made = [layout.automatic(tmp_path, "ALE/Pong-v5", "ppo", 7) for _ in range(3)]
    parent = tmp_path / "ALE-Pong-v5" / "ppo"
    names = ("20260102-030405-seed7", "20260102-030405-seed7-2", "20260102-030405-seed7-3")
    assert made == [parent / name for name in names]
    assert all(path.is_dir() for path in made)
    assert layout.automatic(tmp_path, "ALE/Pong-v5", "ppo", 8).name == "20260102-030405-seed8"


@pytest.mark.usefixtures("clock")
def test_names_say_what_was_set_as_long_as_they_are_short(tmp_path: Path) -> None:
    settings = ["lr0.001", "my:rule/x", "critic_obs-" + "x" * 40, "gamma0.9"]
    name = layout.automatic(tmp_path, "CartPole-v1", "ppo", 7, settings).name
    assert name == "20260102-030405-lr0.001-my-rule-x-gamma0.9-seed7"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match=rf"^{file}/runs cannot be written: Not a directory\.$"):
        layout.timed(file / "runs")


def test_what_the_system_refuses_is_a_usage_error(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=rf"^the run directory {tmp_path} cannot be written: No such file"),
        layout.writing(tmp_path),
    ):
        (tmp_path / "missing" / layout.CONFIG).write_text("{}")
