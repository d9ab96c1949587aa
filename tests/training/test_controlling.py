"""Feedback in the training loop: every agent, what is measured is what it says, and a resumed run goes on with it."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlgd
from rlgd import hyperparameters, training
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.training.loop import learn
from tests.support.probe_envs import collect

SMALL: dict[str, Any] = {"num_envs": 4, "hidden_sizes": (8,), "measure_every": 0}
HEAVY = {"optimizer": "momentum", "learning_rate": 0.01, "schedule": "constant"}
BOTH: dict[str, Any] = {**HEAVY, "learning_rate_control": "alignment:0.5", "momentum_control": "alignment:0.5"}
AGENTS: dict[str, Agent] = {
    "a2c kl": make_agent("a2c", **SMALL, learning_rate_control="kl:0.001"),
    "ppo gru kl": make_agent(
        "ppo",
        **SMALL,
        rollout_length=16,
        network="gru",
        memory_width=8,
        num_minibatches=2,
        learning_rate_control="kl:0.001",
    ),
    "ppo alignment": make_agent("ppo", **SMALL, rollout_length=16, **BOTH),
    "ppo noise of step and batch": make_agent(
        "ppo", **SMALL, rollout_length=16, schedule="constant", learning_rate_control="noise", batch_control="noise"
    ),
    "a2c storm": make_agent(
        "a2c", **SMALL, **HEAVY, variance_reduction="storm", learning_rate_control="storm", rollout_length=8
    ),
    "reinforce noise": make_agent("reinforce", **SMALL, schedule="constant", learning_rate_control="noise"),
}


@pytest.fixture(name="env", scope="module")
def _env() -> DeviceEnv:
    env = make("CartPole-v1", max_episode_steps=20)
    assert isinstance(env, DeviceEnv)
    return env


@pytest.mark.parametrize("name", AGENTS)
def test_the_loop_drives_what_the_laws_measure(name: str, env: DeviceEnv) -> None:
    agent = AGENTS[name]
    agent.validate()
    agent = agent.prepared()
    loop, rows = training.initialize(agent, env, jax.random.key(0), 1000), []
    step = jax.jit(training.iterate, static_argnums=1)
    for _ in range(4):
        before = loop
        loop, metrics = step(agent, env, loop)
        rows.append({k: float(v) for k, v in metrics.items() if k.startswith(("control/", "ascent/"))})
    control = loop.agent_state.control
    structures: list[Any] = [jax.tree.structure(state) for state in (before, loop)]
    assert structures[0] == structures[1]
    assert all(np.isfinite(row["control/learning_rate_factor"]) for row in rows)
    first = float(agent.ascent.rule.learning_rate)
    for row in rows:
        factor = row["control/learning_rate_factor"]
        if "kl" in name:  # known after the update, and applied in the next one
            assert row["control/kl"] > 0
        if "batch" in name:
            assert row["control/gradients"] >= 1
        if "storm" in name or "alignment" in name:
            assert row["ascent/momentum"] == pytest.approx(row["control/momentum"])
        assert row["ascent/learning_rate"] == pytest.approx(first * factor, rel=1e-4)
    assert rows[-1]["control/learning_rate_factor"] != 1
    assert float(jnp.exp(control.log_factor)) != 1


def test_the_kl_is_that_of_the_whole_update(env: DeviceEnv) -> None:
    agent = AGENTS["a2c kl"].prepared()
    loop = training.initialize(agent, env, jax.random.key(0), 1000)
    rollout, _ = collect(agent, env, loop, jax.random.key(1))
    after, metrics = jax.jit(learn, static_argnums=1)(agent, env.spec, loop, rollout)
    assert isinstance(rollout.obs, jax.Array)
    features = agent.features(env.spec, None, rollout.obs)
    old, new = (
        _logits(agent.distribution(env.spec, state.agent_state.params.policy, features)) for state in (loop, after)
    )
    p, q = (x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True)) for x in (old, new))
    expected = np.mean(np.sum(np.exp(p) * (p - q), axis=-1))
    assert float(metrics["control/kl"]) == pytest.approx(expected, rel=1e-2)


def test_stacked_members_are_driven_each_by_its_own(env: DeviceEnv) -> None:
    agents = [hyperparameters.with_values(AGENTS["a2c kl"], {"learning_rate": rate}).prepared() for rate in (1e-4, 0.1)]
    loop = training.initialize(agents[0], env, jax.random.key(0), 1000)
    both: Any = jax.tree.map(lambda *leaves: jnp.stack(leaves), *agents)

    def run(agent: Agent) -> Any:
        return jax.lax.scan(lambda loop, _: training.iterate(agent, env, loop), loop, None, 3)[0].agent_state.control

    together = jax.jit(jax.vmap(run))(both)
    assert together.log_factor[0] > 0 > together.log_factor[1]
    np.testing.assert_allclose(jax.jit(run)(agents[1]).log_factor, together.log_factor[1], rtol=1e-3)


def test_a_trust_region_needs_no_law() -> None:
    for name in ("npg", "trpo"):
        with pytest.raises(UsageError, match="max_kl bounds each step already"):
            make_agent(name, learning_rate_control="kl").validate()


@pytest.mark.slow
def test_nothing_has_moved_where_a_run_begins_with_what_another_learned(tmp_path: Path) -> None:
    options: dict[str, Any] = {"total_timesteps": 20, "eval_episodes": 1}  # one iteration
    rlgd.train("a2c", "CartPole-v1", run_dir=tmp_path / "first", **SMALL, **options)
    agent = make_agent("a2c", **SMALL, **BOTH, variance_reduction="storm")
    seen = _First()
    rlgd.train(agent, "CartPole-v1", init=tmp_path / "first", run_dir=tmp_path / "second", sinks=[seen], **options)
    assert seen.values["control/step_alignment"] == 0
    assert seen.values["ascent/correction_norm"] < 1e-5


class _First:
    """A sink that keeps the first row of the ascent."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def write(self, row: Any) -> None:
        if not self.values and "ascent/learning_rate" in row.values:
            self.values = dict(row.values)


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_what_was_found(tmp_path: Path) -> None:
    agent = make_agent("a2c", **SMALL, rollout_length=8, **BOTH)
    options: dict[str, Any] = {"eval_episodes": 1, "checkpoint_every": 320}
    whole = rlgd.train(agent, "CartPole-v1", total_timesteps=960, run_dir=tmp_path / "whole", **options)
    stopped = rlgd.train(
        agent, "CartPole-v1", total_timesteps=960, run_dir=tmp_path / "parts", sinks=[_StopAt(320)], **options
    )
    assert stopped.steps < 960
    resumed = rlgd.resume(tmp_path / "parts")
    for one, other in zip(*(jax.tree.leaves(r.state.agent_state) for r in (whole, resumed)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(resumed.state.agent_state.control.momentum) != 0.9


def _logits(distribution: Any) -> np.ndarray:
    return np.asarray(distribution.logits, float)


class _StopAt:
    def __init__(self, step: int) -> None:
        self.step = step

    def write(self, row: Any) -> Any:
        return rlgd.Stop("far enough") if row.step >= self.step else None
