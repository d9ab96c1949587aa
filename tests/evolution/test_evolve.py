"""A population that evolves: who copies whom, where the bandit looks, what the winner's schedule says, and resuming."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.ascent import schedules
from rlgd.cli import main
from rlgd.errors import UsageError
from rlgd.evolution import bandit
from rlgd.evolution.dimension import Dimension
from rlgd.evolution.population import _parents, quarter
from rlgd.evolution.result import EvolveResult, line, steps, winner_s_flags
from rlgd.hyperparameters import with_values
from tests.support.marks import quick

AGENT = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0)
RANGES = {"learning_rate": {"log": [1e-4, 1e-1]}, "momentum": {"linear": [0.0, 0.9]}}
PROGRAM = [sys.executable, "-m", "rlgd"]
SMALL: dict[str, Any] = {"members": 4, "generations": 4, "total_timesteps": 2048, "eval_episodes": 2}


def evolve(directory: Path, **options: Any) -> EvolveResult:
    return rlgd.evolve(AGENT, "CartPole-v1", RANGES, evolve_dir=directory, **SMALL | options)


# ------------------------------------------------------------------------------------------------ copying and exploring


def test_the_worst_quarter_copies_the_best_quarter_where_that_is_better() -> None:
    score = jnp.array([3.0, -jnp.inf, 7.0, 1.0, 8.0, 2.0, 5.0, 4.0])
    assert quarter(8) == 2
    seen = set()
    for key in jax.random.split(jax.random.key(0), 20):
        parent = np.asarray(_parents(key, score))
        changed = np.flatnonzero(parent != np.arange(8))
        np.testing.assert_array_equal(changed, [1, 3])  # one diverged, one is the worst of the others
        seen |= set(parent[changed].tolist())
    assert seen == {2, 4}
    for level in (-jnp.inf, 1.0):  # nobody is better than anybody
        np.testing.assert_array_equal(_parents(jax.random.key(0), jnp.full(8, level)), np.arange(8))


def test_the_bandit_looks_where_scores_rose_lately_and_not_twice_at_one_place() -> None:
    place = jnp.linspace(0, 1, 21)[:, None]
    rise = -jnp.square(place[:, 0] - 0.8)
    known = jnp.ones(21, bool)
    suggest = jax.jit(bandit.suggested, static_argnums=2)
    trials = bandit.Trials(place, jnp.full(21, 5.0), rise, known)
    found = np.asarray(suggest(trials, jnp.float32(6), 4, jax.random.key(0)))
    assert np.all(np.abs(found[:, 0] - 0.8) < 0.3)
    # What was good long ago, and is bad now.
    both = bandit.Trials(
        jnp.concatenate([place, place]),
        jnp.repeat(jnp.array([0.0, 5.0]), 21),
        jnp.concatenate([-10 * jnp.square(place[:, 0] - 0.1), 10 * rise]),
        jnp.ones(42, bool),
    )
    assert np.mean(suggest(both, jnp.float32(6), 4, jax.random.key(0))) > 0.5
    unknown = trials._replace(known=jnp.zeros(21, bool))
    anywhere = np.asarray(suggest(unknown, jnp.float32(6), 4, jax.random.key(0)))
    assert np.min(np.diff(np.sort(anywhere[:, 0]))) > 0.05


# --------------------------------------------------------------------------------------------------- the winner's line


def test_the_line_is_the_winner_and_those_it_descends_from() -> None:
    values = np.arange(12.0).reshape(3, 4, 1)
    scores = np.array([[0.0, 1, 2, 3], [0, 1, 2, 3], [9, 1, 2, 3]])
    parents = np.array([[0, 1, 2, 1], [3, 1, 2, 3], [0, 1, 2, 3]])
    np.testing.assert_array_equal(line(values, scores, parents)[:, 0], [1.0, 7.0, 8.0])


def test_a_schedule_of_steps_has_each_factor_for_its_share() -> None:
    factors = np.array([0.5, 0.5, 1.0, 0.25])
    text = steps(factors)
    assert text == "piecewise:0=0.5,0.5=0.5,0.5=1,0.75=1,0.75=0.25,1=0.25"
    shares = (np.arange(4) + 0.5) / 4
    np.testing.assert_allclose([float(schedules.factor(text, share)) for share in shares], factors)


def test_a_plain_run_follows_the_winner_s_values() -> None:
    found = np.array([[1e-3, 0.0, 0.9], [1e-2, 0.5, 0.8], [1e-2, 0.9, 0.7], [3e-3, 0.9, 0.6]])
    kinds = tuple(Dimension(name, 0.0, 1.0, False) for name in ("learning_rate", "momentum", "gamma"))
    agent = with_values(AGENT, winner_s_flags(AGENT, kinds, found))
    agent.validate()
    for n, share in enumerate((np.arange(4) + 0.5) / 4):
        assert float(agent.ascent.step_size(share)) == pytest.approx(found[n, 0], rel=1e-3)
        assert float(agent.ascent.momentum_at(share)) == pytest.approx(found[n, 1], rel=1e-3, abs=1e-6)
    assert agent.gamma == 0.6  # which has no schedule
    fixed = winner_s_flags(AGENT, kinds[:2], np.array([[1e-3, 0.0], [1e-3, 0.0]]))
    assert fixed == {"learning_rate": 1e-3, "momentum": 0.0}


# ----------------------------------------------------------------------------------------------------------- all of it


class _Interrupt:
    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, progress: Any) -> None:
        if progress.done == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", quick(["pb2"], ["pbt", "pb2"]))
def test_a_population_goes_on_with_the_same_bits(method: str, tmp_path: Path) -> None:
    whole = evolve(tmp_path / "whole", method=method)
    assert whole.values.shape == (4, 4, 2)
    assert np.all((whole.values[..., 0] >= 0.99e-4) & (whole.values[..., 0] <= 1.01e-1))
    assert len(np.unique(whole.values[0, :, 0])) == 4  # spread over the range
    copies = whole.parents != np.arange(4)
    assert np.any(copies[:-1])
    for n, m in zip(*np.nonzero(copies[:-1]), strict=True):
        assert whole.scores[n, whole.parents[n, m]] > whole.scores[n, m]
        assert np.any(whole.values[n + 1, m] != whole.values[n, m])
    kept = ~copies[:-1]
    np.testing.assert_array_equal(whole.values[1:][kept], whole.values[:-1][kept])
    assert whole.steps == 4 * 2048
    with pytest.raises(KeyboardInterrupt):
        evolve(tmp_path / "parts", method=method, on_progress=_Interrupt(2))
    parts = evolve(tmp_path / "parts", method=method)
    for name in ("values", "scores", "parents"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.flags == parts.flags
    again = evolve(tmp_path / "whole", method=method)  # which has nothing left to train
    np.testing.assert_array_equal(again.scores, whole.scores)
    assert len(list((tmp_path / "whole" / "tensorboard").iterdir())) == 1
    np.testing.assert_array_equal(whole.evaluation.returns, parts.evaluation.returns)


def test_members_have_all_their_steps_in_whole_iterations_and_copies_other_random_numbers(tmp_path: Path) -> None:
    state: list[Any] = []

    def look(progress: Any) -> None:
        if (tmp_path / "population.npz").exists():
            with np.load(tmp_path / "population.npz") as stored:
                state.append({name: stored[name] for name in stored.files})

    result = evolve(tmp_path, generations=5, total_timesteps=1000, method="pbt", on_progress=look)
    ends = [-(-1000 * (n + 1) // (5 * 32)) * 32 for n in range(5)]  # iterations have 32 steps
    assert [int(each["state/steps"][0]) for each in state] == ends
    assert result.steps == 4 * ends[-1]
    assert np.any(result.parents[:-1] != np.arange(4))
    for each in state:
        assert len({tuple(key) for key in each["state/loops.key"]}) == 4
        np.testing.assert_array_equal(each["state/steps"], each["state/steps"][0])


def test_another_s_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"config\.json is in the way"):
        evolve(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "run.lock"] == ["config.json"]


@pytest.mark.slow
def test_members_are_divided_over_devices(tmp_path: Path) -> None:
    words = ["evolve", "a2c", "--env", "CartPole-v1", "--num-envs", "4", "--hidden-sizes", "8", "--measure-every", "0"]
    words += ["--members", "4", "--generations", "2", "--total-timesteps", "512", "--eval-episodes", "2", "--quiet"]
    words += ["--vary", "learning_rate=log:1e-5,1e-4"]  # so small that rounding stays rounding
    for devices in (1, 2):
        where = ["--devices", str(devices), "--run-dir", str(tmp_path / str(devices))]
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
        done = subprocess.run([*PROGRAM, *words, *where], env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / name / "generations.csv").read_text() for name in ("1", "2"))
    assert one == two


@pytest.mark.slow
def test_fixed_members_go_on_as_they_began(tmp_path: Path) -> None:
    fixed, moving = (evolve(tmp_path / method, method=method, generations=2) for method in ("fixed", "pbt"))
    np.testing.assert_array_equal(fixed.parents, [np.arange(4)] * 2)
    np.testing.assert_array_equal(fixed.values[0], fixed.values[1])
    np.testing.assert_array_equal(fixed.scores[0], moving.scores[0])  # until then they are the same


def test_a_directory_belongs_to_one_population(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evolve(tmp_path, on_progress=_Interrupt(1))
    with pytest.raises(UsageError, match="another seed"):
        evolve(tmp_path, seed=1)
    state = tmp_path / "population.npz"
    state.write_bytes(state.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"population\.npz is damaged"):
        evolve(tmp_path)


def test_the_command_prints_the_line_and_writes_what_a_plain_run_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["a2c", "--env", "CartPole-v1", "--num-envs", "4", "--hidden-sizes", "8", "--measure-every", "0"]
    numbers = ["--members", "4", "--generations", "2", "--total-timesteps", "2k", "--eval-episodes", "2", "--quiet"]
    where = tmp_path / "population"
    vary = ["--vary", "learning_rate=log:1e-4,1e-1", "--vary", "ent_coef=linear:0,0.1"]
    assert main.main(["evolve", *words, *numbers, *vary, "--run-dir", str(where)]) == 0
    shown = capsys.readouterr().out
    assert "| generation | best score |" in shown
    assert f"rlgd train a2c --config {where / 'best.json'}" in shown
    assert json.loads((where / "best.json").read_text())["env"] == "CartPole-v1"
    assert len((where / "generations.csv").read_text().splitlines()) == 1 + 2 * 4
    assert list((where / "tensorboard").glob("events*"))
    config = ["--config", str(where / "best.json"), "--total-timesteps", "512", "--quiet", "--eval-episodes", "2"]
    assert main.main(["train", "a2c", *config, "--run-dir", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("ranges", "options", "problem"),
    [
        ({}, {}, "nothing evolves"),
        (RANGES, {"total_timesteps": 2**31}, "allowed in a population: below"),
        ({"learning_rat": {"log": [1e-4, 1e-2]}}, {}, "learning_rate"),
        ({"num_envs": {"linear": [1, 4]}}, {}, "num_envs cannot change while a population trains"),
        ({"log_std_init": {"linear": [-1, 1]}}, {}, "log_std_init cannot change"),
        ({"learning_rate": [1e-4, 1e-2]}, {}, "expected a range"),
        ({"learning_rate": {"log": [0, 1e-2]}}, {}, "above zero"),
        ({"momentum": {"linear": [0.5, 1.0]}}, {}, r"momentum is 1.0"),
        (RANGES, {"members": 1}, "members is 1"),
        (RANGES, {"generations": 1}, "generations is 1"),
        (RANGES, {"members": 4, "devices": 3}, "members is 4, which 3 devices do not divide"),
        ([("learning_rate", (1e-4, 1e-2))], {}, "expected a dictionary"),
        (RANGES, {"total_timesteps": 10**7}, "allowed: at most 4,096"),
        (RANGES, {"method": "pb3"}, "unknown method 'pb3'"),
    ],
)
def test_what_cannot_evolve_is_refused(ranges: Any, options: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=problem):
        rlgd.evolve(AGENT, "CartPole-v1", ranges, evolve_dir=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"learning_rate_control": "kl"}, "would undo schedule"),
        ({"optimizer": "momentum", "momentum_control": "alignment"}, "both drive it"),
        ({"optimizer": "schedule_free_sgd"}, "schedule_free_sgd does not use it"),
    ],
)
def test_what_a_plain_run_could_not_follow_is_refused_before_it_is_trained(
    fields: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    ranges = RANGES | {"momentum": {"linear": [0.1, 0.9]}}
    with pytest.raises(UsageError, match=problem):
        rlgd.evolve(with_values(AGENT, fields), "CartPole-v1", ranges, evolve_dir=tmp_path / "new", **SMALL)


def test_a_name_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    vary = ["--vary", "learning_rate=log:1e-4,1e-1", "learning_rate=linear:0,1"]
    assert main.main(["evolve", "a2c", "--env", "CartPole-v1", *vary]) == 2
    assert "--vary gives learning_rate twice" in capsys.readouterr().err
    search = ["--search", vary[1], "--search", vary[2]]
    assert main.main(["tune", "a2c", "--env", "CartPole-v1", *search]) == 2
    assert "--search gives learning_rate twice" in capsys.readouterr().err


def test_an_environment_on_the_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runs on the host"):
        rlgd.evolve(AGENT, rlgd.envs.make("CartPole-v1", backend="host"), RANGES, evolve_dir=tmp_path / "new")
