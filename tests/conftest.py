"""Strict mode for every test: no implicit broadcasting or promotion, no key used twice, no warning of our own."""

from collections.abc import Iterator

import hypothesis
import jax
import pytest

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
    """What a test file compiled is of no use to the next one, and adds up to gigabytes."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU run wherever there is one."""
    if jax.default_backend() != "gpu":
        reason = pytest.mark.skip(reason="needs a GPU; JAX finds none")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(reason)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", r"error:::rlgd(\.|$)")
