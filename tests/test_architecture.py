"""The layers of the design, read from the sources: who imports whom, and what the package is made of."""

import ast
import functools
import graphlib
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"rlgd": ROOT / "rlgd", "rlgd.agents": ROOT / "agents", "rlgd.envs": ROOT / "envs"}
# The order of the wings has one place, the table of the design; a wing imports only from wings above it.
WINGS = re.findall(r"^\| `(?:rlgd/)?(\*\.py|\w+/)` +\|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)

# library: the only modules that import it, by a regular expression
OWNERS = {
    "optax": r"rlgd\.ascent\..*",
    "flax": r"rlgd\.models\..*",
    "tensorboardX": r"rlgd\.run\.sinks\.tensorboard",
    "wandb": r"rlgd\.run\.sinks\.wandb",
    "mlflow": r"rlgd\.run\.sinks\.mlflow",
    "comet_ml": r"rlgd\.run\.sinks\.comet",
    "trackio": r"rlgd\.run\.sinks\.trackio",
    "moviepy": r"rlgd\.evaluation\.video",
    "tyro": r"rlgd\.cli\..*",
    "matplotlib": r"rlgd\.(studies|tuning)\.figures",
    "optuna": r"rlgd\.tuning\..*",
    "pandas": r"rlgd\.frames",
    "submitit": r"rlgd\.engines\.slurm",
    "dask": r"rlgd\.engines\.dask_cluster",
    "distributed": r"rlgd\.engines\.dask_cluster",
    "ray": r"rlgd\.engines\.ray_cluster",
    "orbax": r"rlgd\.run\.checkpoints\..*",
    "onnx": r"rlgd\.exporting\.(graph|onnx_file)",
    "onnxruntime": r"rlgd\.exporting\.onnx_file",
    "tensorflow": r"rlgd\.exporting\.tflite_file",
    "gymnasium.vector": r"rlgd\.envs\..*",
    "gymnasium.experimental": r"rlgd\.(envs|exact)\..*",
}


def module_files() -> dict[str, Path]:
    files = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            if path.resolve() == path:  # not through the links rlgd/agents and rlgd/envs
                name = ".".join([package, *path.relative_to(folder).with_suffix("").parts])
                files[name.removesuffix(".__init__")] = path
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
    for node in statements(
        ast.parse(FILES[module].read_text()), skip_type_checking=FILES[module].name == "__init__.py"
    ):
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


def wing(module: str) -> int:
    """The place of a module's wing in the table."""
    if module == "rlgd.__main__":
        return len(WINGS)
    return max(
        (WINGS.index(name) for name in (f"{part}/" for part in module.split(".")[1:2]) if name in WINGS), default=0
    )


def test_the_design_names_every_wing() -> None:
    folders = {f"{path.name}/" for path in (ROOT / "rlgd").iterdir() if (path / "__init__.py").exists()}
    assert {*WINGS} == folders | {"*.py"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_wings_above(module: str) -> None:
    for imported in ours(module):
        assert imported in FILES, f"{module} imports {imported}, which is no module"
        assert wing(imported) <= wing(module), f"{module} imports {imported}"


def test_there_is_no_cycle() -> None:
    order = list(graphlib.TopologicalSorter({module: ours(module) for module in MODULES}).static_order())
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owner_alone(library: str) -> None:
    importers = {m for m in MODULES if any(f"{name}.".startswith(f"{library}.") for name in imports(m))}
    strangers = {m for m in importers if not re.fullmatch(OWNERS[library], m)}
    assert not strangers
    assert importers, f"nobody imports {library}: is the table out of date?"


@pytest.mark.parametrize("name", ["Makefile", ".ci/run", "README.md", "CONTRIBUTING.md", "docs/*.md"])
def test_paths_of_tests_that_files_name_exist(name: str) -> None:
    for path in ROOT.glob(name):
        text = path.read_text()
        for folder, names in re.findall(r"\$\(addprefix (tests/),([^)]*)\)", text):
            text += "".join(f" {folder}{word}" for word in names.replace("\\", "").split())
        for named in re.findall(r"\btests/[\w/.*-]*", text):
            assert any(ROOT.glob(named.rstrip("."))), f"{path.name} names {named}"


def test_agents_and_environments_do_not_know_each_other() -> None:
    for module in MODULES:
        for mine, other in (("rlgd.agents", "rlgd.envs"), ("rlgd.envs", "rlgd.agents")):
            if module.startswith(mine):
                assert not {name for name in imports(module) if name.startswith(other)}, module


def test_the_picture_of_the_design_is_drawn_from_the_present_imports() -> None:
    spec = importlib.util.spec_from_file_location("house", ROOT / "docs" / "house.py")
    assert spec is not None
    assert spec.loader is not None
    house = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(house)
    assert house.PICTURE.read_text() == house.draw(), "run: python docs/house.py"


def test_there_is_no_cycle_among_wings() -> None:
    wings = {place: {wing(other) for module in MODULES if wing(module) == place for other in ours(module)} - {place}
             for place in range(len(WINGS))}  # fmt: skip
    graphlib.TopologicalSorter(wings).prepare()


def test_a_wheel_holds_every_file(tmp_path: Path) -> None:
    """Every module and data file of the folders, and nothing else but the package's own description."""
    for name in ("rlgd", "agents", "envs"):  # a copy: setuptools builds in the folder of the sources
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "."]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path for folder in FOLDERS.values() for path in folder.rglob("*") if path.is_file()}
    own = {path.relative_to(ROOT) for path in files if path.resolve() == path and path.suffix != ".pyc"}
    assert packed == {str(path if path.parts[0] == "rlgd" else "rlgd" / path) for path in own}
    for link in ("agents", "envs"):
        assert (ROOT / "rlgd" / link).resolve() == ROOT / link


def test_no_module_has_the_name_of_a_public_function_or_of_a_standard_module() -> None:
    """Not at the top level; below it, not of a name that the package's face hands on."""
    names = {module.rsplit(".", 1)[1] for module in MODULES if module.count(".") == 1} - {"__main__"}
    assert not names & sys.stdlib_module_names
    for module in MODULES:
        package, _, name = module.rpartition(".")
        if package and name in getattr(importlib.import_module(package), "__all__", ()):
            assert isinstance(getattr(importlib.import_module(package), name), types.ModuleType), module


@pytest.mark.parametrize("module", ["rlgd", "rlgd.agents", "rlgd.errors", "rlgd.cli.main"])
def test_what_the_shell_needs_at_once_does_not_import_jax(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "rlgd" in loaded
    assert not {"jax", "numpy", "optax", "flax", "gymnasium", "orbax", "tyro"} & set(loaded)
