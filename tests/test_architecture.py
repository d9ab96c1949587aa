"""The layers of the design, read from the sources: who imports whom, and what the package is made of."""

import ast
import fnmatch
import functools
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlgd

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: dict[str, str] = PYPROJECT["tool"]["setuptools"]["package-dir"]

# A module imports only from lower layers, or from rows above its own in the same layer.
LAYERS = (
    ("rlgd", "rlgd.data", "rlgd.errors", "rlgd.config"),
    (
        "rlgd.returns",
        "rlgd.distributions",
        "rlgd.objectives",
        "rlgd.schedules",
        "rlgd.optimizers",
        "rlgd.clock",
        "rlgd.ascent",
        "rlgd.diagnostics",
        "rlgd.normalize",
        "rlgd.networks",
        "rlgd.batches",
        "rlgd.natural",
        "rlgd.exact",
    ),
    ("rlgd.spaces", "rlgd.agents.common", "rlgd.agents.*", "rlgd.agents", "rlgd.envs.*", "rlgd.envs"),
    (
        "rlgd.rollout",
        "rlgd.memory",
        "rlgd.episodes",
        "rlgd.policy",
        "rlgd.evaluation",
        "rlgd.play",
        "rlgd.training",
        "rlgd.estimator",
        "rlgd.stopping",
    ),
    ("rlgd.durable", "rlgd.records", "rlgd.tensorboard", "rlgd.console", "rlgd.checkpoint"),
    ("rlgd.signals", "rlgd.rundir", "rlgd.journal", "rlgd.run"),
    (
        "rlgd.grid",
        "rlgd.intervals",
        "rlgd.plan",
        "rlgd.stack",
        "rlgd.studydir",
        "rlgd.report",
        "rlgd.figures",
        "rlgd.sweep",
        "rlgd.tuning",
        "rlgd.verify",
        "rlgd.reproduce",
        "rlgd.scoreboard",
    ),
    ("rlgd.catalog", "rlgd.runtime", "rlgd.cli", "rlgd.__main__"),
)
ROWS = [(layer, row, pattern) for layer, rows in enumerate(LAYERS) for row, pattern in enumerate(rows)]

# library: the only modules that import it, by a regular expression
OWNERS = {
    "optax": r"rlgd\.(optimizers|clock|ascent)",
    "flax": r"rlgd\.networks",
    "tensorboardX": r"rlgd\.tensorboard",
    "moviepy": r"rlgd\.play",
    "tyro": r"rlgd\.cli",
    "matplotlib": r"rlgd\.figures",
    "optuna": r"rlgd\.tuning",
    "orbax": r"rlgd\.checkpoint",
    "gymnasium.vector": r"rlgd\.envs\..*",
    "gymnasium.experimental": r"rlgd\.(envs.*|exact)",
}

# Packages whose names are resolved when they are used: what they import for type checkers is only a table.
LAZY = ("rlgd", "rlgd.agents", "rlgd.envs")


def module_files() -> dict[str, Path]:
    files = {}
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder).glob("*.py"):
            files[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return files


FILES = module_files()
MODULES = sorted(FILES)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def statements(node: ast.AST, skip_type_checking: bool) -> Iterator[ast.AST]:
    """Every node below ``node``, those inside functions too."""
    for child in ast.iter_child_nodes(node):
        if not (skip_type_checking and is_type_checking(child)):
            yield child
            yield from statements(child, skip_type_checking)


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The dotted names that a module imports; a module of ours by its own name."""
    found = set()
    for node in statements(ast.parse(FILES[module].read_text()), skip_type_checking=module in LAZY):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                name if name in FILES or not str(node.module).startswith("rlgd") else str(node.module) for name in names
            }
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "rlgd"}


def rank(module: str) -> tuple[int, int]:
    """Layer and row: of the row that names the module, else of the pattern that it matches."""
    matching = [(pattern != module, layer, row) for layer, row, pattern in ROWS if fnmatch.fnmatchcase(module, pattern)]
    assert matching, f"{module} is in no layer"
    return min(matching)[1:]


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_lower_layers_or_rows_above(module: str) -> None:
    rank(module)
    for imported in ours(module):
        assert imported in FILES, f"{module} imports {imported}, which is no module"
        assert rank(imported) <= rank(module), f"{module} imports {imported}"
        # Modules that share a row (a pattern) may import each other; that there is no cycle is tested below.
        assert rank(imported) < rank(module) or "*" in LAYERS[rank(module)[0]][rank(module)[1]]


def test_there_is_no_cycle() -> None:
    order = list(graphlib.TopologicalSorter({module: ours(module) for module in MODULES}).static_order())
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owner_alone(library: str) -> None:
    importers = {m for m in MODULES if any(f"{name}.".startswith(f"{library}.") for name in imports(m))}
    strangers = {m for m in importers if not re.fullmatch(OWNERS[library], m)}
    assert not strangers
    assert importers, f"nobody imports {library}: is the table out of date?"


def test_agents_and_environments_do_not_know_each_other() -> None:
    for module in MODULES:
        for mine, other in (("rlgd.agents", "rlgd.envs"), ("rlgd.envs", "rlgd.agents")):
            if module.startswith(mine):
                assert not {name for name in imports(module) if name.startswith(other)}, module


def test_every_package_folder_is_installed() -> None:
    folders = {"rlgd": ROOT / "rlgd", "rlgd.agents": ROOT / "agents", "rlgd.envs": ROOT / "envs"}
    found = {}
    for package, folder in folders.items():
        for init in folder.rglob("__init__.py"):
            inner = init.parent.relative_to(folder)
            name = ".".join([package, *inner.parts])
            if init.resolve() == init:  # not through the links rlgd/agents and rlgd/envs
                found[name] = init.parent.relative_to(ROOT).as_posix()
    assert PYPROJECT["tool"]["setuptools"]["packages"] == sorted(found)
    assert found == PACKAGES
    for link in ("agents", "envs"):
        assert (ROOT / "rlgd" / link).resolve() == ROOT / link


def test_every_data_file_is_installed() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]
    installed = {path for package, globs in patterns.items() for glob in globs
                 for path in (ROOT / PACKAGES[package]).glob(glob)}  # fmt: skip
    data = {path for folder in PACKAGES.values() for path in (ROOT / folder).rglob("*.toml")}
    assert data
    assert {path.resolve() for path in data} <= {path.resolve() for path in installed}


def test_no_module_has_the_name_of_a_public_function_or_of_a_standard_module() -> None:
    names = {module.rsplit(".", 1)[1] for module in MODULES if module.count(".") == 1} - {"__main__"}
    assert not names & ({*rlgd.__all__, "study"} | sys.stdlib_module_names)


@pytest.mark.parametrize("module", ["rlgd", "rlgd.agents", "rlgd.errors", "rlgd.cli"])
def test_what_the_shell_needs_at_once_does_not_import_jax(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "rlgd" in loaded
    assert not {"jax", "numpy", "optax", "flax", "gymnasium", "orbax", "tyro"} & set(loaded)
