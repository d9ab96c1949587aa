"""Networks and optimizers of users as values that vary: in studies, on workers, and in searches."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import optax
import pytest

import rlgd
from rlgd import plugins
from rlgd.agents import A2C
from rlgd.errors import UsageError
from rlgd.studies import resume_study
from tests.plugin.rlgd_plugin.networks import Differences
from tests.plugin.rlgd_plugin.optimizers import sign_momentum

AGENT = A2C(num_envs=4, rollout_length=8, measure_every=0)
VARY: dict[str, Any] = {"optimizer": ["adam", sign_momentum], "network": ["mlp", Differences(8)]}
NAMES = ["tests.plugin.rlgd_plugin.optimizers:sign_momentum", "tests.plugin.rlgd_plugin.networks:Differences(width=8)"]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_used", {})


@pytest.mark.slow
def test_a_study_varies_parts_of_users_and_keeps_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"seeds": 2, "total_timesteps": 64, "eval_episodes": 2}
    study = rlgd.study(AGENT, "CartPole-v1", VARY, study_dir=tmp_path / "study", **options)
    text = (tmp_path / "study" / "study.json").read_text()
    assert json.loads(text)["question"]["arms"][0]["vary"] == {
        "optimizer": ["adam", NAMES[0]],
        "network": ["mlp", NAMES[1]],
    }
    assert "optimizer=sign_momentum network=Differences(width=8)" in (tmp_path / "study" / "summary.md").read_text()
    again = resume_study(tmp_path / "study")
    assert len(again.outcomes) == len(study.outcomes) == 8
    monkeypatch.setattr(plugins, "_used", {})  # as in another process
    with pytest.raises(UsageError, match="was an object of Python; give it again"):
        resume_study(tmp_path / "study")
    with pytest.raises(UsageError, match="a file alone imports no code"):
        resume_study(tmp_path / "study", parts=[Differences(8)])
    assert resume_study(tmp_path / "study", parts=[Differences(8), sign_momentum]).outcomes


@pytest.mark.slow
def test_parts_that_are_described_alike_are_kept_apart() -> None:
    """As two optimizers that optax chains are."""
    options: dict[str, Any] = {"seeds": 1, "total_timesteps": 320, "eval_episodes": 2}
    cases = {"none": {"optimizer": optax.adam(0.0)}, "big": {"optimizer": optax.adam(1.0)}}
    study = rlgd.study(AGENT, "CartPole-v1", cases=cases, **options)
    entropies = [study.outcomes[n].rows[-2].values["train/entropy"] for n in (0, 1)]
    assert abs(entropies[0] - entropies[1]) > 1e-3


def test_parts_of_the_same_name_cannot_both_vary() -> None:
    with pytest.raises(UsageError, match="parts of the same name: sign_momentum, sign_momentum"):
        rlgd.study(AGENT, "CartPole-v1", {"optimizer": [sign_momentum, "other.module:sign_momentum"]})


@pytest.mark.slow
def test_workers_and_searches_take_them(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": 2, "total_timesteps": 64, "eval_episodes": 2}
    here = rlgd.study(AGENT, "CartPole-v1", VARY, **options)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        there = rlgd.study(AGENT, "CartPole-v1", VARY, executor=executor, **options)
        returns = [[one.outcomes[n].episode_return for n in range(8)] for one in (here, there)]
        assert returns[0] == returns[1]
        found = rlgd.tune(
            AGENT, "CartPole-v1", VARY, trials=2, seeds=1, fresh_seeds=1, total_timesteps=512, eval_episodes=2,
            tune_dir=tmp_path / "search", executor=executor,
        )  # fmt: skip
    assert set(found.best) == {"optimizer", "network"}
