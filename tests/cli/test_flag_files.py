"""Flags out of files."""

from pathlib import Path

import pytest

from rlgd.cli import main


def test_a_toml_file_gives_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flags.toml").write_text('env = "CartPole-v1"\ntotal-timesteps = 64\nhidden_sizes = [4]\nnum_env = 2\n')
    assert main.main(["train", "a2c", "--config", str(tmp_path / "flags.toml")]) == 2
    assert "unknown flag 'num_env'; did you mean 'num_envs'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("flags.toml", "schedule = 5", "schedule is 5; allowed: text"),
        ("flags.toml", 'env = "CartPole-v1"\nschedule = "lin"', "unknown schedule 'lin'; did you mean 'linear'"),
        (
            "flags.json",
            '{"hyperparameters": {}}',
            "is no config.json of this version of rlgd: KeyError('format_version')",
        ),
        ("flags.json", "[]", "is not a table in JSON: it is a list; expected a table"),
    ],
)
def test_a_mistake_in_a_file_of_flags(
    name: str, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert main.main(["train", "a2c", "--env", "CartPole-v1", "--config", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err
