"""Completion in a shell."""

import subprocess
import sys
from pathlib import Path

import pytest

from rlgd.cli import main

ASK = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}
_tyro_rlgd rlgd "${{COMP_WORDS[COMP_CWORD]}}"
echo "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module", name="script")
def _script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "rlgd.bash"
    argv = [sys.executable, "-m", "rlgd", "--tyro-write-completion", "bash", str(path)]
    subprocess.run(argv, check=True, timeout=120)
    return path


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("rlgd tra", "train"),
        ("rlgd train tr", "trpo"),
        ("rlgd train ppo --lea", "--learning-rate"),
        ("rlgd train reinforce --base", "--baseline"),
        ("rlgd eval run --epi", "--episodes"),
    ],
)
def test_bash_completes(words: str, completed: str, script: Path) -> None:
    code = ASK.format(script=script, words=words)
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [completed]


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--tyro-print-completion", "bahs"]) == 2
    assert "unknown shell 'bahs'; did you mean 'bash'" in capsys.readouterr().err
