"""What is released: the source archive and the wheel that is built from it, installed where nothing of ours is."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlgd

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("rlgd", "agents", "envs", "MANIFEST.in", "pyproject.toml", "README.md", "LICENSE")
CONSTRAINTS = {11: "constraints-py311.txt"}  # by minor version; the others take the newer ones
MINORS = (11, 12, 13)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the archive and of the wheel that was built from the archive alone."""
    copy = tmp_path_factory.mktemp("checkout")  # setuptools builds in the folder of the sources
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    subprocess.run([sys.executable, "-m", "build", "--no-isolation"], cwd=copy, check=True, capture_output=True)
    return copy / "dist"


def test_both_are_there_and_have_the_version(built: Path) -> None:
    expected = {f"rlgd-{rlgd.__version__}.tar.gz", f"rlgd-{rlgd.__version__}-py3-none-any.whl"}
    assert {path.name for path in built.iterdir()} == expected


def test_an_index_would_take_them(built: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())],
        capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1", "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_wheel_has_what_programs_need_besides_modules(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for link in ("agents", "envs"):
        modules = {f"rlgd/{path.relative_to(ROOT)}" for path in (ROOT / link).rglob("*.py")}
        assert modules <= {*names}
    for name in ("rlgd/py.typed", "rlgd/agents/presets/ppo.toml", "rlgd/studies/questions/momentum.toml"):
        assert name in names
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]


def interpreters() -> Iterator[tuple[int, str]]:
    """The Pythons that are here, one of each version that rlgd supports."""
    for minor in MINORS:
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
        for python in (f"python3.{minor}", *map(str, sorted(pyenv.glob(f"3.{minor}.*/bin/python3")))):
            code = "import sys, ensurepip, venv; print(sys.version_info.minor)"
            path = shutil.which(python)
            done = path and subprocess.run([path, "-c", code], capture_output=True, text=True)
            if path and done and done.stdout.strip() == str(minor):
                yield minor, path
                break


def test_this_python_is_found() -> None:
    assert sys.version_info.minor in dict(interpreters())


@pytest.mark.slow
@pytest.mark.parametrize("minor", MINORS)
def test_the_wheel_trains_in_an_empty_environment(minor: int, built: Path, tmp_path: Path) -> None:
    python = dict(interpreters()).get(minor)
    if python is None:
        pytest.skip(f"Python 3.{minor} is not here")
    (wheel,) = built.glob("*.whl")
    subprocess.run([python, "-m", "venv", "env"], cwd=tmp_path, check=True)
    constraints = ROOT / CONSTRAINTS.get(minor, "constraints-py312.txt")
    install = ["env/bin/python", "-m", "pip", "install", "-q", "-c", str(constraints), str(wheel)]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=1200)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JAX_", "XLA_"))}
    variables["PATH"] = os.defpath  # without another rlgd

    def typed(line: str) -> str:
        done = subprocess.run(
            line.split(), cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert typed("env/bin/rlgd --version").strip() == rlgd.__version__
    trained = typed("env/bin/rlgd train ppo --env CartPole-v1 --total-timesteps 20k --quiet")
    assert re.search(r"evaluation: mean return \d", trained)
    assert "curves:      env/bin/tensorboard --logdir runs" in trained
    typed("env/bin/rlgd eval runs --episodes 2")
    assert "nothing wrong was found" in typed("env/bin/rlgd doctor")


FIRST_CELL = """
import sys
import nbformat
from nbclient import NotebookClient

path, wheel = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
first = next(cell for cell in notebook.cells if cell.cell_type == "code")
assert 'PACKAGE = "rlgd"' in first.source
first.source = first.source.replace('PACKAGE = "rlgd"', f"PACKAGE = {wheel!r}")
notebook.cells = [first, nbformat.v4.new_code_cell("import rlgd; print(rlgd.__version__, rlgd.__file__)")]
NotebookClient(notebook, timeout=1200).execute()
print(notebook.cells[1].outputs[0].text)
"""


@pytest.mark.slow
def test_the_first_cell_of_a_notebook_installs_rlgd_where_it_is_not(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "env"], cwd=tmp_path, check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "ipykernel", "nbclient"], check=True, timeout=1200)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JAX_", "XLA_"))}
    variables["PIP_CONSTRAINT"] = str(ROOT / CONSTRAINTS.get(sys.version_info.minor, "constraints-py312.txt"))
    notebook = ROOT / "examples" / "notebooks" / "start.ipynb"
    done = subprocess.run(
        [python, "-c", FIRST_CELL, notebook, wheel],
        cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == rlgd.__version__
    assert str(tmp_path) in done.stdout
