"""Every example runs as it stands."""

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from rlgd.ascent import OPTIMIZERS

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
LONG = ["exact_gradient", "gae_windows", "search_with_flaml", "search_with_hyperopt"]
NEEDED = {"search_with_hyperopt": "hyperopt", "search_with_flaml": "flaml"}  # packages that rlgd does not need


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in LONG)) for path in EXAMPLES],
)
def test_example(path: Path, tmp_path: Path) -> None:
    if path.stem in NEEDED and importlib.util.find_spec(NEEDED[path.stem]) is None:
        pytest.skip(f"{NEEDED[path.stem]} is not installed")
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_index_has_every_example_with_its_picture() -> None:
    folder = EXAMPLES[0].parent
    index = (folder / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\S+)` \|.*\| !\[.*\]\((\S+)\) \|$", index, re.MULTILINE))
    files = {path.name for path in (*EXAMPLES, *folder.glob("notebooks/*.ipynb"))}
    assert rows.keys() == files | {"without_rlgd/"}
    assert all((folder / picture).stat().st_size for picture in rows.values())


def test_every_optimizer_fits_the_line() -> None:
    fit = runpy.run_path(str(EXAMPLES[0].with_name("line_fit.py")))["fit"]
    found = {name: tuple(round(value, 2) for value in fit(name)) for name in OPTIMIZERS}
    assert found == dict.fromkeys(OPTIMIZERS, (0.7, 1.9))
