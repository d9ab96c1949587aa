"""Strict mode for every test: no implicit broadcasting or promotion, no key used twice, no warning of our own.

Most of the time goes into compiling small programs. So XLA optimizes less, on JAX 0.10 without the fusion emitters,
which take most of the rest, and in one piece, which takes a fifth less; all test processes share their compiled
programs; and Python collects garbage less often.
"""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

SHARED = "RLGD_TESTS_COMPILED"  # names the folder, for worker processes
folder = os.environ.get(SHARED) or tempfile.mkdtemp(prefix="rlgd-tests-")
os.environ[SHARED] = folder
for name, value in {
    "jax_compilation_cache_dir": folder,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
flags = ["--xla_backend_optimization_level=0"]
if jax.__version_info__ < (0, 11):  # later compilers always use the emitters, and abort at a flag that is gone
    flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
for flag in flags:
    if flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):  # the caller's own flags stay
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()

# Messages name commands as they can be typed here. Tests read them where the path has rlgd.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# As in rlgd.engines.slurm, for tests that import submitit to see whether it is there.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)
# Accelerators round the factors of a product to fewer bits by default: tests compare with NumPy.
jax.config.update("jax_default_matmul_precision", "highest")

# The same examples in every run; the first one compiles, which takes longer than any deadline.
hypothesis.settings.register_profile("rlgd", deadline=None, derandomize=True, database=None, max_examples=40)
hypothesis.settings.load_profile("rlgd")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs() -> Iterator[None]:
    """Drop the programs of a test file: the next file cannot use them, and they add up to gigabytes."""
    yield
    jax.clear_caches()


# The files that take longest. They begin first, so that at the end no process works alone.
LONG = (
    *("test_learning.py", "test_fuzz.py", "test_signals.py", "test_run.py", "test_kills.py", "test_faults.py"),
    *("test_ascent.py", "test_any_space.py", "test_comparison.py", "test_contract.py", "test_diagnostics.py"),
    *("test_natural.py", "test_recurrent.py", "test_study.py", "test_workers.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, and skip tests that need a GPU where there is none."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    if jax.default_backend() != "gpu":
        reason = pytest.mark.skip(reason="needs a GPU; JAX finds none")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(reason)


def pytest_collection_finish() -> None:
    """What is imported by now stays; tracing makes many objects, and an eighth of its time went into looking at all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder, in the process that made it; its workers have ended by then."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Make warnings from our own modules errors, here and in processes that tests start.

    A filter in the environment has no pattern, so it takes one for each module.
    """
    config.addinivalue_line("filterwarnings", r"error:::rlgd(\.|$)")
    os.environ["PYTHONWARNINGS"] = ",".join(f"error:::{module}" for module in sorted(_own_modules()))


def _own_modules() -> Iterator[str]:
    root = Path(__file__).resolve().parent.parent
    for package, folder in {"rlgd": "rlgd", "rlgd.agents": "agents", "rlgd.envs": "envs"}.items():
        for path in (root / folder).rglob("*.py"):
            module = ".".join([package, *path.relative_to(root / folder).with_suffix("").parts])
            yield module.removesuffix(".__init__")
