"""``rlgd doctor`` on this machine, and on machines where something is wrong."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from rlgd.cli import doctor, main


def told(environment: dict[str, str | None], cwd: Path) -> tuple[int, dict[str, str], list[str]]:
    env = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-m", "rlgd", "doctor", "--json"],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    return done.returncode, found["facts"], found["wrong"]


def test_it_says_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    code = main.main(["doctor"])
    text = capsys.readouterr().out
    assert code == ("wrong: " in text)
    for fact in (f"jax                {jax.__version__}", "devices            cpu", "Python", "compiled programs"):
        assert fact in text


def test_extras_are_those_whose_packages_are_installed(capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)["facts"]
    there, others = ({*facts[name].split(", ")} for name in ("extras", "other extras"))
    assert {"dev", "box2d", "mujoco"} <= there
    assert {"tflite", "playground"} <= others  # the test tools do not have them
    assert not there & others


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"HOME": "/proc", "XDG_CACHE_HOME": None}, "no program stays compiled"),
        ({"JAX_PLATFORMS": "cuda"}, "JAX finds no device"),
        ({"JAX_ENABLE_X64": "1"}, "rlgd computes in 32 bits"),
        ({"JAX_DISABLE_JIT": "1"}, "training takes many times as long"),
    ],
)
def test_what_is_wrong_is_named_with_what_helps(
    environment: dict[str, str | None], sentence: str, tmp_path: Path
) -> None:
    code, _, wrong = told(environment, tmp_path)
    assert code == 1
    assert any(sentence in line for line in wrong)


def test_another_rlgd_first_on_the_path_is_named(tmp_path: Path) -> None:
    other = tmp_path / "rlgd"
    other.write_text("#!/bin/sh\n")
    other.chmod(stat.S_IRWXU)
    _, _, wrong = told({"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}, tmp_path)
    assert any(str(other) in line for line in wrong)


def test_a_full_disk_and_a_full_memory_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENOUGH", 1 << 60)
    text = "\n".join(doctor._wrong())
    assert "the disk of" in text
    assert "memory is nearly full" in text
