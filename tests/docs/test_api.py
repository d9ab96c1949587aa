"""The API pages: every public name is described there, stands in an example that runs, and has a docstring."""

import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from tests.test_public_names import PUBLIC

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = {"rlgd.evolution": "tuning", "rlgd.tuning": "tuning"}  # by package, where the page has another name


class Built(NamedTuple):
    """What two builders of Sphinx made: the HTML of pages, and what trying the examples printed."""

    html: Path
    tried: "subprocess.CompletedProcess[str]"


def build(builder: str, out: Path) -> "subprocess.CompletedProcess[str]":
    """Build the site, with what was read by the last builder."""
    command = [sys.executable, "-m", "sphinx", "-q", "-b", builder, "-d", str(out / "read"), str(DOCS)]
    options = {"env": os.environ | {"PJRT_NPROC": "1"}, "cwd": ROOT, "capture_output": True, "text": True}
    return subprocess.run([*command, str(out / builder)], check=False, timeout=900, **options)  # type: ignore[call-overload]


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("site")
    done = build("html", out)
    assert done.returncode == 0, done.stderr
    return Built(out / "html", build("doctest", out))


def page_of(package: str) -> str:
    """The API page of a package: that of ``rlgd.envs.host`` is ``envs``."""
    return PAGES.get(package, package.removeprefix("rlgd.").partition(".")[0])


@functools.cache
def examples(page: str) -> str:
    """The code of the examples of a page, without what it prints."""
    text = (DOCS / "api" / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```\{doctest\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return "\n".join(line[4:] for block in blocks for line in block.splitlines() if line.startswith((">>> ", "... ")))


def lines_with(name: str, code: str) -> list[str]:
    """The lines of code that use a name, imports left out."""
    return [line for line in code.splitlines() if re.search(rf"\b{name}\b", line) and " import " not in line]


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_described(package: str, built: Built) -> None:
    html = (built.html / "api" / f"{page_of(package)}.html").read_text("utf-8")
    anchors = set(re.findall(r'\bid="([^"]+)"', html))
    names = {f"{package}.{name}" for name in PUBLIC[package].split()}
    assert not {name for name in names if not {name, f"module-{name}"} & anchors}


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_stands_in_an_example(package: str) -> None:
    code = examples(page_of(package))
    assert not [name for name in PUBLIC[package].split() if not lines_with(name, code)]


def test_the_examples_run(built: Built) -> None:
    assert built.tried.returncode == 0, built.tried.stdout + built.tried.stderr
    output = (built.html.parent / "doctest" / "output.txt").read_text("utf-8")
    tests = re.search(r"^ *(\d+) tests\n *0 failures in tests", output, re.MULTILINE)
    assert tests is not None
    assert int(tests[1]) > 300


# ---------------------------------------------------------------------------------------------------------- docstrings


def described(package: str) -> Iterator[tuple[str, Any]]:
    """The public classes and functions of a package, those of public modules too."""
    module = importlib.import_module(package)
    for name in PUBLIC[package].split():
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            yield value.__name__, value
            if value.__name__ not in PUBLIC:
                yield from defined_in(value)
        elif getattr(value, "__module__", "").startswith("rlgd") and (inspect.isclass(value) or callable(value)):
            yield f"{package}.{name}", value


def defined_in(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
        if own and (inspect.isclass(value) or inspect.isfunction(value)):
            yield f"{module.__name__}.{name}", value


def undescribed(name: str, value: Any) -> Iterator[str]:
    """The name if it has no docstring; of a class the names of its methods and properties that have none."""
    if (value.__doc__ or f"{value.__name__}(").startswith(f"{value.__name__}("):  # as Python writes it by itself
        yield name
    for member in vars(value) if inspect.isclass(value) else ():
        found = inspect.getattr_static(value, member)
        is_code = isinstance(found, property | functools.cached_property | classmethod | staticmethod)
        if member.startswith("_") or not (is_code or inspect.isfunction(found)):
            continue
        if not (inspect.getdoc(getattr(value, member)) or "").strip():  # that of the method which it overrides will do
            yield f"{name}.{member}"


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_has_a_docstring(package: str) -> None:
    assert not [missing for name, value in described(package) for missing in undescribed(name, value)]
