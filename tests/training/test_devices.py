"""One program on several devices: the same gradients, the same training, and runs that change their number."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

import rlgd
from rlgd.agents import A2C, PPO
from rlgd.envs import make
from rlgd.errors import UsageError
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.system import mesh
from tests.support.many_devices import AGENTS
from tests.support.marks import quick

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "hidden_sizes": (4,), "measure_every": 4}


def python(
    devices: int, *arguments: str, cwd: Path, seconds: float = 900, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a process with this many devices."""
    variables = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, timeout=seconds
    )


def on_eight(call: str, seconds: float = 900, **environment: str) -> None:
    """Call a function of ``tests.support.many_devices`` in a process with eight devices."""
    code = f"from tests.support import many_devices as it; it.{call}"
    done = python(8, "-c", code, cwd=ROOT, seconds=seconds, **environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", quick(["a2c"], AGENTS))
def test_any_number_of_devices_gives_the_same_gradient(name: str) -> None:
    on_eight(f"gradients({name!r}, 1e-5)")


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_in_double_precision_the_gradient_is_the_same_to_twelve_places(name: str) -> None:
    on_eight(f"gradients({name!r}, 1e-12)", JAX_ENABLE_X64="1")


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_training_drifts_by_rounding_alone(name: str) -> None:
    on_eight(f"training_drifts({name!r}, 3, 1e-5)")


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_fifty_iterations_drift_little(name: str) -> None:
    on_eight(f"training_drifts({name!r}, 50, 1e-3)")


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_where_each_device_shuffles_its_own_rows_none_moves(name: str) -> None:
    on_eight(f"own_rows_stay({name!r})")


def test_minibatches_of_several_devices() -> None:
    on_eight("minibatches_are_of_all_devices()")


@pytest.mark.slow
def test_twenty_seeds_learn_on_eight_devices_as_on_one() -> None:
    on_eight("as_many_seeds_learn(20)", seconds=3600)


@pytest.mark.slow
def test_climbers_are_divided_over_the_devices() -> None:
    on_eight("climbers_are_divided()")


@pytest.mark.slow
def test_each_device_has_its_share_of_the_update() -> None:
    on_eight("update_is_divided()")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(tmp_path: Path) -> None:
    flags = ["--num-envs", "4", "--rollout-length", "8", "--hidden-sizes", "4", "--eval-episodes", "1", "--quiet"]
    train = ["-m", "rlgd", "train", "a2c", "--env", "CartPole-v1", "--no-preset", "--measure-every", "4", *flags]
    for number, other in ((2, 1), (1, 2)):
        run = f"from-{number}"
        begun = python(2, *train, "--total-timesteps", "320", "--devices", str(number), "--run-dir", run, cwd=tmp_path)
        assert begun.returncode == 0, begun.stderr
        rest = python(
            2, "-m", "rlgd", "resume", run, "--devices", str(other), "--total-timesteps", "640", "--quiet", cwd=tmp_path
        )
        assert rest.returncode == 0, rest.stderr
    (one, two) = (
        [json.loads(line) for line in (tmp_path / f"from-{number}" / "metrics.jsonl").read_text().splitlines()]
        for number in (1, 2)
    )
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for row, other_row in zip(one, two, strict=True):
        for name, value in row.items():
            if not name.startswith(("time/", "seconds")):
                assert other_row[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


def test_too_many_devices_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    number = len(jax.devices()) + 1
    agent = A2C(**SMALL | {"num_envs": 12 * number})
    with pytest.raises(UsageError, match=rf"devices is {number}, but JAX finds .* cpu device.*JAX_NUM_CPU_DEVICES"):
        rlgd.train(agent, "CartPole-v1", total_timesteps=64, devices=number, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("num_envs", "devices", "nearest"), [(4, 3, "3 or 6"), (1, 2, "2"), (12, 8, "8 or 16")])
def test_environments_that_devices_do_not_divide_are_refused(num_envs: int, devices: int, nearest: str) -> None:
    agent = A2C(**SMALL | {"num_envs": num_envs})
    with pytest.raises(UsageError, match=f"num_envs is {num_envs}, which {devices} .* nearest that do: {nearest}"):
        rlgd.train(agent, "CartPole-v1", total_timesteps=64, devices=devices)


def test_each_device_must_be_able_to_shuffle_its_own_rows() -> None:
    agent = PPO(num_envs=4, rollout_length=8, num_minibatches=32)
    config = RunConfig(agent, make("CartPole-v1"), RunSettings(devices=2))
    config.validate()
    message = r"shuffle is 'local', so each of 2 devices has rows of its own: num_minibatches is 32, .* = 2 \* 8 = 16"
    with pytest.raises(UsageError, match=message):
        config.with_settings(shuffle="local").validate()


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_several_devices_learn_from_environments_on_the_host_as_one_does(name: str) -> None:
    on_eight(f"host_training_drifts({name!r}, 2, 1e-5)")


def test_one_device_needs_no_mesh() -> None:
    assert mesh.make_mesh(1) is None
    assert mesh.num_devices() == 1
    rows = jax.numpy.arange(3)
    assert mesh.divided(rows) is rows
    assert mesh.together(rows) is rows
