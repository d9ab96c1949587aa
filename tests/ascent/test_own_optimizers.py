"""Optimizers of users: transformations of optax as they are, and functions whose numbers are traced."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rlgd
from rlgd import plugins
from rlgd.agents import A2C, PPO
from rlgd.agents import check as check_agent
from rlgd.ascent import Ascent
from rlgd.envs import make
from rlgd.errors import UsageError
from rlgd.hyperparameters import from_dict, to_dict, with_values
from rlgd.run import description
from rlgd.run.config import RunConfig
from tests.plugin.rlgd_plugin.optimizers import sign_momentum

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, -0.3])}
GRADIENT = {"w": jnp.array([[0.2, -0.1], [-0.4, 0.3]]), "b": jnp.array([-1.0, 0.7])}
SMALL: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "measure_every": 0}


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_used", {})
    monkeypatch.setattr(plugins, "_trusted", set())


def ppo(**fields: Any) -> PPO:
    return PPO(**fields)


def a2c(**fields: Any) -> A2C:
    return A2C(**fields)


def climbed(ascent: Ascent, steps: int = 4) -> Any:
    rule, params = ascent.transformation(), PARAMS
    state = rule.init(params)
    for _ in range(steps):
        step, state = rule.update(GRADIENT, state, params)
        params = optax.apply_updates(params, step)
    return params


def descended(theirs: optax.GradientTransformation, steps: int = 4) -> Any:
    params, state = PARAMS, theirs.init(PARAMS)
    downhill = jax.tree.map(jnp.negative, GRADIENT)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for _ in range(steps):
            step, state = theirs.update(downhill, state, params)
            params = optax.apply_updates(params, step)
    return params


@pytest.mark.parametrize("make_one", [optax.contrib.prodigy, lambda: optax.adam(0.01), lambda: optax.sgd(0.1, 0.9)])
def test_a_transformation_is_taken_as_it_is(make_one: Any) -> None:
    ascent = Ascent(make_one())
    assert ascent.rule.learning_rate == 1
    for ours, theirs in zip(*map(jax.tree.leaves, (climbed(ascent), descended(make_one()))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, climbed(Ascent(make_one(), learning_rate=0.0)), PARAMS)))


@pytest.mark.parametrize(
    ("function", "fields", "arguments"),
    [
        (optax.sgd, {"learning_rate": 0.1, "momentum": 0.5}, {"learning_rate": 0.1, "momentum": 0.5}),
        (optax.sgd, {"learning_rate": 0.1}, {"learning_rate": 0.1, "momentum": 0.0}),
        (optax.adamw, {"learning_rate": 0.1, "momentum": 0.7}, {"learning_rate": 0.1, "b1": 0.7}),
        (
            optax.adamw,
            {"weight_decay": 0.3, "epsilon": 1e-3},
            {"learning_rate": 1e-3, "weight_decay": 0.3, "eps": 1e-3},
        ),
        (optax.contrib.prodigy, {}, {}),
        (sign_momentum, {"learning_rate": 0.1, "momentum": 0.5}, {"learning_rate": 0.1, "momentum": 0.5}),
    ],
)
def test_a_function_gets_the_numbers_that_it_takes(function: Any, fields: Any, arguments: Any) -> None:
    ours, theirs = climbed(Ascent(function, **fields)), descended(function(**arguments))
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_its_numbers_are_traced() -> None:
    traces = 0

    @jax.jit
    def end(ascent: Ascent) -> Any:
        nonlocal traces
        traces += 1
        return climbed(ascent)["b"]

    ascents = [Ascent(sign_momentum, learning_rate=0.1, momentum=m) for m in (0.0, 0.5, 0.9)]
    alone = [end(jax.tree.map(jnp.float32, ascent)) for ascent in ascents]
    assert traces == 1
    stacked = jax.vmap(end)(jax.tree.map(lambda *x: jnp.array(x), *ascents))
    np.testing.assert_allclose(stacked, jnp.stack(alone), rtol=1e-6)
    assert len({float(x[0]) for x in alone}) == 3


def test_schedules_act_on_it() -> None:
    ascent = Ascent(sign_momentum, learning_rate=0.1, momentum=0.5, schedule="linear", momentum_schedule="linear:0.1")
    rule = ascent.transformation()
    end, _ = rule.update(GRADIENT, rule.init(PARAMS), PARAMS, progress=1.0)
    assert not np.any(jax.tree.leaves(end)[0])


def test_a_learning_rate_comes_with_the_optimizer() -> None:
    assert ppo(optimizer=optax.contrib.prodigy).ascent.rule.learning_rate == 1
    assert ppo(optimizer=optax.adam(0.1)).ascent.rule.learning_rate == 1
    assert ppo(optimizer=optax.adam(0.1), learning_rate=0.5).ascent.rule.learning_rate == 0.5
    assert ppo(optimizer=sign_momentum).ascent.rule.learning_rate == ppo().ascent.rule.learning_rate
    assert with_values(ppo(), {"optimizer": optax.adam(0.1)}).ascent.rule.learning_rate == 1
    assert with_values(ppo(), {"optimizer": "sgd"}) == ppo(optimizer="sgd")
    assert Ascent("prodigy").rule.learning_rate == ppo(optimizer="dog").ascent.rule.learning_rate == 1
    assert ppo(optimizer="prodigy", learning_rate=0.5).ascent.rule.learning_rate == 0.5
    written = to_dict(ppo(optimizer=sign_momentum, learning_rate=0.25))
    assert from_dict(ppo(), written).ascent.rule.learning_rate == 0.25


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": 3}, "the optimizer is 3; expected an optax transformation"),
        ({"optimizer": optax.polyak_sgd}, r"polyak_sgd' raises TypeError: .* missing 1 required .* 'value'"),
        ({"optimizer": lambda learning_rate: None}, "the optimizer returns None"),
        ({"optimizer": lambda rate: optax.sgd(rate)}, "missing 1 required positional argument: 'rate'"),
        ({"optimizer": optax.adam(0.1), "momentum": 0.5}, r"momentum is set, but optax.* does not use it"),
        ({"optimizer": optax.adam(0.1), "rollout_moments": "decay"}, "rollout_moments 'decay' is set"),
        ({"optimizer": "adamm"}, "unknown optimizer 'adamm'; did you mean"),
        ({"optimizer": "antigravity:make"}, "a file alone imports no code; name it yourself: --trust antigravity"),
    ],
)
def test_what_does_not_fit_is_refused(fields: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        a2c(**fields).validate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [sign_momentum, optax.contrib.prodigy(estim_lr_coef=0.5)], ids=["function", "object"]
)
def test_an_agent_with_it_keeps_the_contract(optimizer: Any) -> None:
    check_agent(a2c(optimizer=optimizer, **SMALL | {"measure_every": 1}))


def test_a_run_is_resumed_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent() -> A2C:
        return a2c(optimizer=optax.contrib.prodigy(estim_lr_coef=0.5), schedule="constant", **SMALL)

    options: dict[str, Any] = {"eval_episodes": 1}
    whole = rlgd.train(agent(), "CartPole-v1", total_timesteps=256, run_dir=tmp_path / "whole", **options)
    rlgd.train(agent(), "CartPole-v1", total_timesteps=128, run_dir=tmp_path / "half", **options)
    name = json.loads((tmp_path / "half" / "config.json").read_text())["hyperparameters"]["optimizer"]
    assert name.startswith("optax.contrib._prodigy:prodigy(...)")
    monkeypatch.setattr(plugins, "_used", {})  # as in another process
    with pytest.raises(UsageError, match="was an object of Python; give it again"):
        rlgd.resume(tmp_path / "half", total_timesteps=256)
    with pytest.raises(UsageError, match=r"but 'optax.*' was given"):
        rlgd.resume(tmp_path / "half", optimizer=optax.adam(1e-3), total_timesteps=256)
    rest = rlgd.resume(tmp_path / "half", optimizer=optax.contrib.prodigy(estim_lr_coef=0.5), total_timesteps=256)
    for a, b in zip(*(jax.tree.leaves(each.state.agent_state) for each in (whole, rest)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tensorboard_names_it() -> None:
    config = RunConfig(a2c(optimizer=sign_momentum, momentum=0.5), make("CartPole-v1"))
    shown = description.hyperparameters(config)
    assert shown["optimizer"] == "tests.plugin.rlgd_plugin.optimizers:sign_momentum"
    assert shown["momentum"] == 0.5
    assert "optimizer=tests.plugin.rlgd_plugin.optimizers:sign_momentum" in description.group(config)


def test_the_document_shows_the_optimizer_of_the_plugin() -> None:
    root = Path(__file__).parents[2]
    code = (root / "tests" / "plugin" / "rlgd_plugin" / "optimizers.py").read_text()
    assert f"```python\n{code}```" in (root / "docs" / "extending.md").read_text()
