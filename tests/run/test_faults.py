"""What is not finite ends a run, is named with its iteration, and leaves the last finite state; nothing is mended."""

import contextlib
import functools
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from jax import Array

import rlgd
from rlgd import training
from rlgd.agents import A2C, PPO, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.agents.base.faults import FAULTS, FINITE, GRADIENT, OBJECTIVE, OBSERVATION, PARAMETERS, REWARD
from rlgd.ascent import Ascent
from rlgd.cli import jax_setup, main
from rlgd.envs import DeviceEnv, Env, make
from rlgd.errors import Diverged, EnvironmentFault, RlgdError
from rlgd.pytrees import LoopState
from rlgd.run import TrainResult
from rlgd.run.checkpoints.folder import latest_step
from rlgd.run.checkpoints.state import restore
from rlgd.run.sinks.rows import Row
from rlgd.training import DeviceRunner
from rlgd.training import chunks as chunks_module
from rlgd.training.faults import Fault
from tests.support.probe_envs import initialize

NAN, INF = math.nan, math.inf
STEPS = 8  # of a rollout, in one environment: rows of an iteration
TOTAL = 20 * STEPS
WHEN, AFTER, LIMIT = 20, 16, 27  # in iteration 2; the observation after iteration 1; the time limit, in iteration 3


class Kind(NamedTuple):
    """An episode in which the reward (the observation) is ``value`` at step ``when``; ``what`` names which of the two.

    In a silent one all other observations and rewards are 0.
    """

    what: str = "nothing"
    value: float = 0.0
    when: int = WHEN
    silent: bool = False


KINDS = {
    "healthy": Kind(),
    "nan reward": Kind("reward", NAN),
    "infinite reward": Kind("reward", -INF),
    "nan observation": Kind("observation", NAN),
    "infinite observation": Kind("observation", INF),
    "nan observation after": Kind("observation", NAN, AFTER),
    "nan final observation": Kind("observation", NAN, LIMIT),
    "large observation": Kind("observation", 1e12),
    "reward whose square is infinite": Kind("reward", 4e19),
    "observation whose square is infinite": Kind("observation", 1e25),
    "sudden": Kind("reward", 1e3, silent=True),
}


class State(NamedTuple):
    """``t`` int32 counts the steps of the episode, ``kind`` int32 is drawn at its start."""

    t: Array
    kind: Array


class Faulty(FuncEnv[State, Array, Array, Array, Array, Any, Any]):
    """Observes (1, sin t) and pays cos(t) times the action, but for what the episode's kind says.

    The episode terminates at step ``length``; stepped on from there, it pays ``after_end``.
    """

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Discrete(2)

    def __init__(self, kinds: list[Kind], length: int = 10 * LIMIT, after_end: float = 0.0) -> None:
        super().__init__()
        self.kinds, self.length, self.after_end = kinds, length, after_end

    def _value(self, state: State, what: str, usual: Array) -> Array:
        def of(values: list[Any]) -> Array:
            return jnp.asarray(values)[state.kind]

        usual = jnp.where(of([kind.silent for kind in self.kinds]), 0, usual)
        here = of([kind.what == what for kind in self.kinds]) & (state.t == of([kind.when for kind in self.kinds]))
        return jnp.where(here, of([kind.value for kind in self.kinds]), usual)

    def initial(self, rng: Array, params: Any = None) -> State:
        return State(jnp.zeros((), jnp.int32), jax.random.randint(rng, (), 0, len(self.kinds)))

    def transition(self, state: State, action: Array, rng: Array, params: Any = None) -> State:
        return state._replace(t=state.t + 1)

    def observation(self, state: State, rng: Array, params: Any = None) -> Array:
        numbers = jnp.ones(()), jnp.sin(state.t.astype(float))
        return jnp.stack([self._value(state, "observation", number) for number in numbers])

    def reward(self, state: State, action: Array, next_state: State, rng: Array, params: Any = None) -> Array:
        usual = jnp.cos(state.t.astype(float)) * action.astype(float)
        return jnp.where(state.t >= self.length, self.after_end, self._value(state, "reward", usual))

    def terminal(self, state: State, rng: Array, params: Any = None) -> Array:
        return state.t >= self.length


def on_device(kinds: list[Kind], limit: int, **options: Any) -> DeviceEnv:
    made = make(Faulty(kinds, **options), max_episode_steps=limit)
    assert isinstance(made, DeviceEnv)
    return made


# Which kind is played is drawn from the seed: one program serves them all.
MIXED, HEALTHY = on_device(list(KINDS.values()), LIMIT), on_device([Kind()], STEPS)


def a2c(learning_rate: float = 0.01, **settings: Any) -> Agent:
    return A2C(**(_small(learning_rate) | settings))


def ppo(learning_rate: float = 0.01, **settings: Any) -> Agent:
    return PPO(**(_small(learning_rate) | {"num_epochs": 2, "num_minibatches": 2} | settings))


def reinforce(learning_rate: float = 0.01) -> Agent:
    small = _small(learning_rate)
    del small["rollout_length"]
    return REINFORCE(**small)


def _small(learning_rate: float) -> dict[str, Any]:
    ascent = Ascent("sgd", learning_rate=learning_rate)
    return {"num_envs": 1, "rollout_length": STEPS, "hidden_sizes": (), "ascent": ascent, "measure_every": 0}


def begin(agent: Agent, env: DeviceEnv, seed: int = 0) -> LoopState:
    return initialize(agent.prepared(), env, jax.random.key(seed), TOTAL)


@functools.cache
def seed_of(kind: str) -> int:
    """A seed whose first episode is of a kind."""
    wanted = list(KINDS).index(kind)
    return next(seed for seed in range(1000) if begin(a2c(), MIXED, seed).env_state.inner.kind[0] == wanted)


def train(agent: Agent, env: Any, run_dir: Path | None = None, **options: Any) -> TrainResult:
    defaults: dict[str, Any] = {"total_timesteps": TOTAL, "eval_episodes": 1}
    return rlgd.train(agent, env, run_dir=run_dir, **(defaults | options))


def fails(agent: Agent, env: Any, run_dir: Path | None = None, **options: Any) -> RlgdError:
    with pytest.raises((Diverged, EnvironmentFault)) as caught:
        train(agent, env, run_dir, **options)
    return caught.value


iterate = jax.jit(training.iterate, static_argnums=1)


def nonfinite(tree: Any) -> int:
    """How many numbers of a tree are not finite."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return sum(int((~np.isfinite(leaf)).sum()) for leaf in leaves if leaf.dtype.kind == "f")


def stepped(agent: Agent, env: DeviceEnv, seed: int = 0) -> list[dict[str, Any]]:
    """Metrics and parameters of one iteration after another, up to the first in which something is not finite."""
    loop, seen = begin(agent, env, seed), []
    for _ in range(TOTAL // STEPS):
        loop, metrics = iterate(agent.prepared(), env, loop)
        seen.append(metrics | {"params": loop.agent_state.params})
        if nonfinite(objective_and_lengths(metrics)) or nonfinite(loop.agent_state.params):
            break
    return seen


def objective_and_lengths(metrics: dict[str, Any]) -> list[Any]:
    names = ("train/objective", "ascent/gradient_norm", "ascent/value_gradient_norm")
    return [metrics[name] for name in names]


def kept(agent: Agent, env: Env, run_dir: Path) -> LoopState:
    """The state that a run left."""
    steps = latest_step(run_dir / "checkpoints")
    assert steps is not None
    like = jax.eval_shape(lambda key: training.initialize(agent.prepared(), env, key), jax.random.key(0))
    return restore(run_dir / "checkpoints", steps, like)


def assert_same(one: LoopState, other: LoopState) -> None:
    """To the bit; but for progress, which depends on where the run was to end."""
    for name in ("agent_state", "env_state", "obs", "first", "episodes", "iteration"):
        pairs = zip(jax.tree.leaves(getattr(one, name)), jax.tree.leaves(getattr(other, name)), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)


def after(agent: Agent, env: DeviceEnv, iterations: int, seed: int = 0) -> LoopState:
    """A run of exactly this many iterations, none of which has a fault."""
    runner = DeviceRunner(agent.prepared(), env, training.chunk_length(agent, env))
    if iterations == 0:
        return begin(agent, env, seed)
    loop, metrics = runner(begin(agent, env, seed), iterations, 2**31 - 1)
    assert len(metrics["rollout/steps"]) == iterations
    assert not metrics["fault/count"].any()
    return loop


def rows_of(run_dir: Path) -> list[dict[str, float]]:
    """``metrics.jsonl``, in which there may be no NaN and no infinity."""

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} in metrics.jsonl")

    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


# ------------------------------------------------------------------------------------------------------ on the device


def assert_kept(agent: Agent, env: DeviceEnv, run_dir: Path, error: RlgdError, iteration: int, seed: int = 0) -> None:
    """What a run left that failed in an iteration: the state before it, to the bit, and rows up to there."""
    assert re.search(rf" is not finite in iteration {iteration}\b", str(error)), str(error)
    assert "The last finite state is kept." in str(error)
    loop = kept(agent, env, run_dir)
    assert loop.iteration == iteration
    assert nonfinite(loop.agent_state) == 0
    assert_same(loop, after(agent, env, iteration, seed))
    for a, b in zip(*(jax.tree.leaves(x) for x in (rlgd.load(run_dir).actor, loop.agent_state.actor)), strict=True):
        np.testing.assert_array_equal(a, b)
    rows, steps = rows_of(run_dir), latest_step(run_dir / "checkpoints")
    assert len(rows) == iteration
    assert max([row["step"] for row in rows], default=0) == steps
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["reason"] == f"{type(error).__name__}: {error}"
    assert (summary["steps"], summary["iterations"]) == (steps, iteration)


DIVERGING = {
    "a2c slowly": a2c(1e4),
    "a2c at once": a2c(1e30),
    "ppo": ppo(1e12),
    "ppo with target_kl": ppo(1e12, target_kl=0.01),
    "reinforce": reinforce(1e15),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DIVERGING)
def test_a_learning_rate_that_is_too_large_diverges(name: str, tmp_path: Path) -> None:
    agent = DIVERGING[name]
    *finite, last = stepped(agent, HEALTHY)
    error = fails(agent, HEALTHY, tmp_path)
    assert isinstance(error, Diverged)
    assert error.exit_code == 4
    assert_kept(agent, HEALTHY, tmp_path, error, len(finite))
    if not isinstance(agent, PPO):  # of whose metrics only the mean over its updates is known
        objective, *lengths = objective_and_lengths(last)
        allowed = {OBJECTIVE} if nonfinite(objective) else {GRADIENT}
        if nonfinite(last["train/value_error"]):
            allowed.add(OBJECTIVE)  # of which the value function's error is a part
        assert nonfinite([objective, *lengths])
        assert any(
            f"diverged: {FAULTS[what]} is not finite in iteration {len(finite)}, update 0." in str(error)
            for what in allowed
        )


FAULTY = {
    "nan reward": (REWARD, 2),
    "infinite reward": (REWARD, 2),
    "nan observation": (OBSERVATION, 2),
    "infinite observation": (OBSERVATION, 2),
    # Never in a row that is learned from: after the last row of iteration 1, and after the time limit in iteration 3.
    "nan observation after": (OBSERVATION, 1),
    "nan final observation": (OBSERVATION, 3),
    "large observation": (GRADIENT, 2),
    "sudden": (PARAMETERS, 2),
}
CASES = [
    *(("a2c", kind) for kind in FAULTY),
    *(("ppo", kind) for kind in ("nan reward", "infinite observation", "nan observation after")),
]
# "sudden": nothing is learned until a gradient of moderate size comes, which is multiplied by this.
HUGE = 3e38


@pytest.mark.parametrize(("name", "kind"), CASES, ids=map(" ".join, CASES))
def test_the_quantity_and_the_iteration_are_named(name: str, kind: str, tmp_path: Path) -> None:
    agent = ppo(target_kl=0.01) if name == "ppo" else a2c(HUGE if kind == "sudden" else 0.01)
    quantity, iteration = FAULTY[kind]
    error = fails(agent, MIXED, tmp_path, seed=seed_of(kind))
    assert f"{FAULTS[quantity]} is not finite in iteration {iteration}" in str(error)
    assert isinstance(error, EnvironmentFault if quantity in (REWARD, OBSERVATION) else Diverged)
    assert error.exit_code == (3 if quantity in (REWARD, OBSERVATION) else 4)
    assert_kept(agent, MIXED, tmp_path, error, iteration, seed_of(kind))


@pytest.mark.slow
def test_whole_episodes_have_the_iteration_in_which_the_fault_was_drawn(tmp_path: Path) -> None:
    """Each iteration draws a kind of its own."""
    for seed in range(100):
        *finite, last = stepped(reinforce(1e-4), MIXED, seed)
        if len(finite) > 1 and last["fault/first"] == REWARD:
            break
    else:
        pytest.fail("no seed has such a fault")
    error = fails(reinforce(1e-4), MIXED, tmp_path, seed=seed)
    assert isinstance(error, EnvironmentFault)
    assert str(error).startswith(f"a reward is not finite in iteration {len(finite)}")
    assert_kept(reinforce(1e-4), MIXED, tmp_path, error, len(finite), seed)


def test_a_message_names_the_update() -> None:
    """One of PPO's four in an iteration; A2C has one; what the last one made of the parameters no update has seen."""
    agent = ppo(1e30)
    *_, last = stepped(agent, HEALTHY)
    update = int(last["fault/update"])
    assert 0 <= update < 4
    assert f", update {update}." in str(fails(agent, HEALTHY))
    assert ", update 0." in str(fails(a2c(1e30), HEALTHY))
    error = fails(a2c(HUGE), MIXED, seed=seed_of("sudden"))
    assert f"{FAULTS[PARAMETERS]} is not finite in iteration 2." in str(error)


def test_a_run_that_is_finite_is_left_alone() -> None:
    for agent in (a2c(), ppo(target_kl=0.01), reinforce()):
        assert train(agent, HEALTHY).reason == "total_timesteps"


def test_resuming_with_a_smaller_step_size_goes_on(tmp_path: Path) -> None:
    fails(a2c(HUGE), MIXED, tmp_path, seed=seed_of("sudden"), total_timesteps=3 * STEPS)
    result = rlgd.resume(tmp_path, env=MIXED, learning_rate=0.01)
    assert (result.reason, result.steps) == ("total_timesteps", 3 * STEPS)
    assert [row["step"] for row in rows_of(tmp_path) if "train/objective" in row] == [STEPS, 2 * STEPS, 3 * STEPS]


@pytest.mark.parametrize("after_end", [NAN, INF])
def test_rows_after_the_end_of_an_episode_are_no_fault(after_end: float) -> None:
    """Whole episodes are collected in blocks of steps: rows after the end are masked, and whatever they hold counts
    for nothing.
    """
    env = on_device([Kind()], STEPS, length=3, after_end=after_end)
    assert train(reinforce(), env).reason == "total_timesteps"


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"normalize_obs": True}, "observation whose square is infinite"),
        ({"scale_reward": True, "gae_lambda": 0.0}, "reward whose square is infinite"),
    ],
    ids=["observations", "rewards"],
)
def test_running_statistics_are_kept_finite_too(settings: dict[str, Any], kind: str, tmp_path: Path) -> None:
    """Else what is divided by them is 0 for ever, and nothing is learned any more; the run may end there or not."""
    agent = a2c(**settings)
    with contextlib.suppress(Diverged, EnvironmentFault):
        train(agent, MIXED, tmp_path, seed=seed_of(kind), total_timesteps=3 * STEPS)
    loop = kept(agent, MIXED, tmp_path)
    assert loop.iteration >= 2
    assert nonfinite(loop.agent_state) == 0


def test_no_row_of_the_curves_is_infinite(tmp_path: Path) -> None:
    """The value function's error, which is a part of what is ascended, overflows before its gradient does."""
    seed = seed_of("reward whose square is infinite")
    with contextlib.suppress(Diverged):
        train(a2c(1e-9, gamma=0.0), MIXED, tmp_path, seed=seed, total_timesteps=3 * STEPS)
    assert len(rows_of(tmp_path)) >= 2


def test_an_evaluation_that_is_not_finite_is_the_environments_fault(tmp_path: Path) -> None:
    """Its episodes go further than training has come."""
    env = on_device([KINDS["nan reward"]], LIMIT)
    with pytest.raises(EnvironmentFault, match="reward"):
        train(a2c(), env, tmp_path, total_timesteps=STEPS)
    rows_of(tmp_path)
    assert "NaN" not in (tmp_path / "summary.json").read_text()


class Interrupt:
    """Ctrl-C at a row of the curves."""

    def __init__(self, step: int) -> None:
        self.step = step

    def write(self, row: Row) -> None:
        if row.step == self.step:
            raise KeyboardInterrupt


def test_a_checkpoint_has_the_steps_of_its_state_wherever_the_run_was_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(a2c(), HEALTHY, tmp_path, sinks=[Interrupt(2 * STEPS)])
    assert latest_step(tmp_path / "checkpoints") == int(kept(a2c(), HEALTHY, tmp_path).iteration) * STEPS


# ------------------------------------------------------------------------------------------------ counted and chunked


def counted(metrics: dict[str, Any]) -> tuple[int, int, int]:
    count, first, update = (metrics[f"fault/{name}"] for name in ("count", "first", "update"))
    assert {count.dtype, first.dtype, update.dtype} == {jnp.dtype("int32")}
    return int(count), int(first), int(update)


def size(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("kind", ["nan reward", "infinite reward"])
def test_rewards_updates_and_parameters_are_counted(kind: str) -> None:
    """It is paid once; the one update sees it, and spoils every parameter."""
    *before, last = stepped(a2c(), MIXED, seed_of(kind))
    assert [counted(metrics) for metrics in before] == [(0, FINITE, 0)] * 2
    assert nonfinite(last["params"]) == size(last["params"]) == 9
    assert counted(last) == (1 + 1 + 9, REWARD, 0)


def test_observations_are_counted() -> None:
    *before, last = stepped(a2c(), MIXED, seed_of("infinite observation"))
    assert [counted(metrics) for metrics in before] == [(0, FINITE, 0)] * 2
    assert counted(last) == (2 + 1 + nonfinite(last["params"]), OBSERVATION, 0)


def test_every_update_of_ppo_from_the_first_faulty_one_on_is_counted() -> None:
    """Four, two in each pass: the first or the second minibatch has the reward, later ones have parameters of NaN."""
    *_, last = stepped(ppo(), MIXED, seed_of("nan reward"))
    count, first, update = counted(last)
    assert first == REWARD
    assert update in (0, 1)
    assert count == 1 + (4 - update) + nonfinite(last["params"])


def test_target_kl_does_not_hide_what_is_not_finite() -> None:
    """NaN is not below ``target_kl``: after the first update, which is always made, none is; and all the same what was
    not finite is counted.
    """
    loop = begin(ppo(target_kl=0.01), MIXED, seed_of("nan observation"))
    for _ in range(3):
        loop, metrics = iterate(ppo(target_kl=0.01).prepared(), MIXED, loop)
    count, first, update = counted(metrics)
    assert first == OBSERVATION
    assert update in (0, 1)
    assert metrics["train/updates"] == 1
    assert count > 2
    # The first update leaves finite numbers that are too large for the second; a third is not made.
    for agent in (ppo(1e12), ppo(1e12, target_kl=0.01)):
        *_, last = stepped(agent, HEALTHY)
        assert counted(last)[0] > 0


def test_chunks_end_with_the_fault() -> None:
    agent, length, seed = a2c().prepared(), 2, seed_of("nan reward")
    loop = begin(agent, MIXED, seed)
    chunks = list(chunks_module.chunks(DeviceRunner(agent, MIXED, length), loop, length, TOTAL))
    assert [chunk.fault is None for chunk in chunks] == [True, False]
    assert [len(chunk.metrics["rollout/steps"]) for chunk in chunks] == [2, 0]
    assert [chunk.steps for chunk in chunks] == [2 * STEPS, 2 * STEPS]
    assert [int(chunk.loop.iteration) for chunk in chunks] == [2, 2]
    assert chunks[-1].fault == Fault(REWARD, 2, 0, 1 + 1 + size(loop.agent_state.params))
    for chunk in chunks:
        assert nonfinite(chunk.metrics) == 0
        assert not [name for name in chunk.metrics if name.startswith("fault/")]
    assert_same(chunks[-1].loop, after(a2c(), MIXED, 2, seed))


@pytest.mark.parametrize("length", [1, 3])
def test_the_state_before_the_fault_does_not_depend_on_the_chunks(length: int) -> None:
    agent, seed = a2c().prepared(), seed_of("nan reward")
    *_, last = chunks_module.chunks(DeviceRunner(agent, MIXED, length), begin(agent, MIXED, seed), length, TOTAL)
    assert last.fault is not None
    assert (last.fault.iteration, last.steps) == (2, 2 * STEPS)
    assert_same(last.loop, after(a2c(), MIXED, 2, seed))


# --------------------------------------------------------------------------------------------------------- on the host


class Broken(gymnasium.Env[Any, Any]):
    """Observes (1, sin t) and pays cos(t) times the action; in step ``when`` since it was made one number is not so."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Discrete(2)

    def __init__(self, what: str = "nothing", when: int = WHEN, value: str = "nan") -> None:
        self.what, self.when, self.value, self.t = what, when, float(value), 0

    def _observation(self, value: float) -> Any:
        return np.array([1.0, value], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observation(0.0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward = math.sin(self.t), math.cos(self.t) * float(action)
        if self.t == self.when:
            seen = self.value if self.what == "observation" else seen
            reward = self.value if self.what == "reward" else reward
        self.t += 1
        return self._observation(seen), reward, False, False, {}


gymnasium.register("guard/Broken-v0", f"{__name__}:Broken", max_episode_steps=10 * LIMIT)


def broken(**what: Any) -> Env:
    return make("guard/Broken-v0", **what)


def assert_same_agent(one: LoopState, other: LoopState) -> None:
    pairs = zip(jax.tree.leaves(one.agent_state), jax.tree.leaves(other.agent_state), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("what", "value"), [("reward", "nan"), ("reward", "-inf"), ("observation", "inf")])
def test_a_host_environment_is_named_and_every_iteration_before_is_kept(what: str, value: str, tmp_path: Path) -> None:
    error = fails(a2c(), broken(what=what, value=value), tmp_path)
    assert isinstance(error, EnvironmentFault)
    assert str(error) == (
        f"guard/Broken-v0: environment 0 gave the {what} {value}, which must be finite, in step {WHEN} since the "
        "reset; its last action was 1."
    )
    assert json.loads((tmp_path / "summary.json").read_text())["reason"] == f"EnvironmentFault: {error}"
    whole = WHEN // STEPS
    assert latest_step(tmp_path / "checkpoints") == whole * STEPS
    assert_same_agent(kept(a2c(), broken(), tmp_path), train(a2c(), broken(), total_timesteps=whole * STEPS).state)
    assert [row["step"] for row in rows_of(tmp_path)] == [STEPS * (n + 1) for n in range(whole)]


def test_nothing_is_lost_of_a_row_that_a_host_environment_breaks_off(tmp_path: Path) -> None:
    """In a run so long that a row of the curves is of several iterations."""
    with pytest.raises(EnvironmentFault):
        train(a2c(), broken(what="reward", value="nan"), tmp_path, total_timesteps=10_000 * STEPS)
    whole = WHEN // STEPS
    assert whole % 25 != 0  # iterations in a row
    assert latest_step(tmp_path / "checkpoints") == whole * STEPS
    assert rows_of(tmp_path)[-1]["step"] == whole * STEPS


def test_divergence_on_the_host_keeps_the_state_before_it(tmp_path: Path) -> None:
    agent = a2c(1e4)
    error = fails(agent, broken(), tmp_path)
    assert isinstance(error, Diverged)
    found = re.search(r"is not finite in iteration (\d+), update 0\.", str(error))
    assert found is not None
    iteration = int(found[1])
    assert iteration > 1
    loop = kept(agent, broken(), tmp_path)
    assert int(loop.iteration) == iteration
    assert nonfinite(loop.agent_state) == 0
    assert latest_step(tmp_path / "checkpoints") == iteration * STEPS
    assert_same_agent(loop, train(agent, broken(), total_timesteps=iteration * STEPS).state)
    assert [row["step"] for row in rows_of(tmp_path)] == [STEPS * (n + 1) for n in range(iteration)]
    # One iteration more, and it is not finite.
    assert str(fails(agent, broken(), total_timesteps=(iteration + 1) * STEPS)) == str(error)


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(jax_setup, "set_up", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    command = [
        *("train", "a2c", "--env", "guard/Broken-v0", "--total-timesteps", str(TOTAL), "--num-envs", "1", "--quiet"),
        *("--rollout-length", str(STEPS), "--hidden-sizes", "--optimizer", "sgd", "--schedule", "constant"),
        *("--max-grad-norm", "None", "--measure-every", "0"),
    ]
    assert main.main([*command, "--env-arg", "what=reward", "--run-dir", "fault"]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("rlgd: error: guard/Broken-v0: environment 0 gave the reward nan")
    assert main.main([*command, "--learning-rate", "1e4", "--run-dir", "diverged"]) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"rlgd: error: training diverged: the (objective|gradient) is not finite in iteration \d+, update 0\. The last "
        r"finite state is kept\. A smaller learning_rate, or a max_grad_norm, may help\.\n",
        err,
    ), err


def test_nothing_is_repaired() -> None:
    root = Path(__file__).resolve().parents[2]
    sources = [path for folder in ("rlgd", "agents", "envs") for path in (root / folder).rglob("*.py")]
    assert len(sources) > 100
    mending = re.compile(r"nan_to_num|nan(mean|sum|max|min|std|var)\b|apply_if_finite|zero_nans")
    assert not [path.name for path in sources if mending.search(path.read_text())]
