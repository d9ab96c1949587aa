"""Run directories of an earlier version: they load, evaluate and resume as they did there."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlgd
from rlgd.run import config_content, config_file
from rlgd.run.checkpoints import folder
from tests.support.marks import quick

OLD = Path(__file__).parent / "fixtures" / "runs_of_format_5"
EXPECTED: dict[str, dict[str, Any]] = json.loads((OLD / "expected.json").read_text())
RELATIVE, ABSOLUTE = 1e-4, 1e-7  # processors round differently


@pytest.fixture(name="run", params=quick([name for name in EXPECTED if name != "ppo_interrupted"], EXPECTED))
def _run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / request.param, tmp_path / request.param))


def test_its_policy_plays_as_before(run: Path) -> None:
    env = config_file.read(run, None).evaluation_env
    played = rlgd.evaluate(rlgd.load(run), env, episodes=3, seed=0)
    np.testing.assert_allclose(played.returns, EXPECTED[run.name]["returns"], RELATIVE)


def test_it_resumes_as_before(run: Path) -> None:
    expected = EXPECTED[run.name]
    assert json.loads((run / "config.json").read_text())["format_version"] == 5
    before = (run / "metrics.jsonl").read_text()
    result = rlgd.resume(run, total_timesteps=expected["total_timesteps"])
    assert (result.steps, result.reason) == (expected["steps"], expected["reason"])
    assert result.evaluation is not None
    np.testing.assert_allclose(result.evaluation.returns, expected["resumed_returns"], RELATIVE)
    text = (run / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert text.startswith("".join(before.splitlines(keepends=True)[:-1]))
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    last = rows[-2]
    for name, value in expected["last_row"].items():
        assert last[name] == pytest.approx(value, RELATIVE, ABSOLUTE), name


@pytest.mark.slow
def test_what_is_written_from_then_on_is_of_this_version(run: Path) -> None:
    rlgd.resume(run, total_timesteps=EXPECTED[run.name]["total_timesteps"])
    assert json.loads((run / "config.json").read_text())["format_version"] == config_content.FORMAT_VERSION
    assert folder.latest_step(run / "checkpoints") == EXPECTED[run.name]["steps"]
    assert rlgd.resume(run).reason == "already complete"
    rlgd.load(run)
