"""A small run that several tests read; they work on copies."""

from pathlib import Path

import pytest

import rlgd
from tests.support.small_runs import train


@pytest.fixture(scope="session", name="written")
def _written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, rlgd.TrainResult]:
    run = tmp_path_factory.mktemp("runs") / "run"
    return run, train(run)
