"""A warning from one of our own modules is an error, in this process and in those that tests start."""

import subprocess
import sys
import warnings

import pytest

MODULES = ["rlgd", "rlgd.run.api", "rlgd.agents.ppo", "rlgd.envs.host.workers", "rlgd.envs.functional.cartpole"]
WARN = """
import importlib, warnings
exec("warnings.warn('old')", {{**vars(importlib.import_module({!r})), "warnings": warnings}})
"""


@pytest.mark.parametrize("module", MODULES)
def test_a_warning_of_our_own_is_an_error(module: str) -> None:
    code = WARN.format(module)
    with pytest.raises(UserWarning, match="old"):
        exec(code, {"__name__": "test"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "UserWarning: old")


def test_a_warning_of_others_is_none() -> None:
    code = "import warnings; warnings.warn('old')"
    with warnings.catch_warnings(record=True) as caught:
        exec(code, {"__name__": "rlgdish.envs"})
    assert [str(warning.message) for warning in caught] == ["old"]
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
