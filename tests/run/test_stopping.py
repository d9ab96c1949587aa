"""Reasons to stop early: each fires where it must where returns are known, and changes nothing else."""

import json
import math
import time
from pathlib import Path
from typing import Any

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
from rlgd.agents import A2C, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.ascent import Ascent
from rlgd.cli import jax_setup, main
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.evaluation import Policy
from rlgd.evaluation.evaluator import EVAL_SEED
from rlgd.run import Stopping, TrainResult
from rlgd.run.cadence import EVALUATIONS
from rlgd.run.checkpoints import folder
from rlgd.run.stopping import CRITERIA, NEVER, CriteriaState, Fired

LENGTH = 4  # steps of an episode of ``Steady``


class Steady(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """Every step pays the same: each episode's return is ``LENGTH * pay``, whatever is done. Nothing is observed."""

    observation_space, action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

    def __init__(self, pay: float) -> None:
        super().__init__()
        self.pay = pay

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jnp.zeros((), jnp.int32)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return state + 1

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(1)

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.asarray(self.pay)

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state >= LENGTH


class Lottery(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """One step, which pays ``sign`` times a number from [0, 1) that is drawn at the start and never seen."""

    observation_space, action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jnp.stack([jnp.zeros(()), jax.random.uniform(rng)])

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return state.at[0].set(1)

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(1)

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return self.sign * state[1]

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state[0] > 0


PEAK = 0.1


class Misleading(Steady):
    """One step. What sampled actions earn draws the mean of the policy past what is best for the mean itself.

    An action a within +-1/2 pays 1 - |a - PEAK|, one beyond pays 3 sign(a): the mean rises steadily from 0, and the
    return of the greedy policy rises until the mean is at ``PEAK`` and falls from there.
    """

    action_space = Box(-10.0, 10.0, (1,))  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(0.0)

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.where(jnp.abs(action[0]) < 0.5, 1 - jnp.abs(action[0] - PEAK), 3 * jnp.sign(action[0]))

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state >= 1


def on_device(env: Steady | Lottery) -> DeviceEnv:
    made = make(env, max_episode_steps=2 * LENGTH)
    assert isinstance(made, DeviceEnv)
    return made


# Equal environments are equal static arguments: each of these compiles once.
STEADY, NOTHING, MISLEADING = on_device(Steady(1.0)), on_device(Steady(0.0)), on_device(Misleading())
RETURN = 1.0 * LENGTH
ASCENT = Ascent("sgd", learning_rate=0.1)
AGENT = A2C(num_envs=2, rollout_length=LENGTH, hidden_sizes=(), ascent=ASCENT, measure_every=0)
ROWS = 2 * LENGTH  # steps of an iteration
EVERY, TOTAL = 5 * ROWS, 40 * ROWS
BATCH = 64
SMOOTH = A2C(num_envs=BATCH, rollout_length=1, hidden_sizes=(), ascent=Ascent("sgd", learning_rate=0.01))
SMOOTH_TOTAL = 20 * BATCH


def train(agent: Agent = AGENT, env: Any = STEADY, run_dir: Path | None = None, **options: Any) -> TrainResult:
    defaults: dict[str, Any] = {"total_timesteps": TOTAL, "eval_episodes": 2}
    return rlgd.train(agent, env, run_dir=run_dir, **(defaults | options))


def read(run_dir: Path, name: str = "summary.json") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / name).read_text())
    return content


def criteria_of(run_dir: Path) -> dict[str, Any]:
    settings = read(run_dir, "config.json")["settings"]
    return {name: settings[name] for name in CRITERIA}


def evaluations(run_dir: Path) -> dict[int, float]:
    """The mean return of each evaluation, by its step."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["eval/episode_return"] for row in rows if "eval/episode_return" in row}


def numbers(policy: Policy) -> list[Any]:
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(policy.actor)]


def files(directory: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------------------------------- the criteria


WRONG: dict[str, list[Any]] = {
    "target_return": [math.nan, math.inf, -math.inf, "4", True],
    "patience": [0, -1, 1.5, 2.0, True, math.nan],
    "min_gradient_norm": [0, 0.0, -1e-3, math.nan, math.inf, False],
    "min_objective_change": [0.0, -1, math.inf],
    "max_seconds": [0, -1.0, math.nan, "60"],
}
ALLOWED = {
    "target_return": "a number within (-inf, inf)",
    "patience": "a whole number within [1, inf)",
    "min_gradient_norm": "a number within (0, inf)",
    "min_objective_change": "a number within (0, inf)",
    "max_seconds": "a number within (0, inf)",
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_criterion_out_of_range_is_named_with_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Stopping(**{name: value}).validate()
    assert str(caught.value) == f"{name} is {value!r}; allowed: {ALLOWED[name]}."


def test_criteria_within_their_ranges_are_accepted() -> None:
    NEVER.validate()
    Stopping(-200.0, 1, 1e-9, 1e-9, 0.1).validate()
    of_numpy: Any = np.int64(3)
    Stopping(0, of_numpy, 1, 2, 3600).validate()
    assert set(CRITERIA) == set(WRONG)


def test_only_the_return_and_patience_need_evaluations() -> None:
    assert [Stopping(**{name: 1}).evaluates for name in CRITERIA] == [True, True, False, False, False]
    assert not NEVER.evaluates


def row(norm: float | None = None, mean: float | None = None) -> dict[str, float]:
    values = {"ascent/gradient_norm": norm, "rollout/episode_return": mean}
    return {name: value for name, value in values.items() if value is not None}


def test_a_row_below_the_least_norm_stops_and_one_at_it_does_not() -> None:
    criteria, state = Stopping(min_gradient_norm=0.5), CriteriaState()
    assert state.after_row(criteria, 8, row(0.5)) == (state, None)
    assert state.after_row(criteria, 8, row()) == (state, None)
    assert state.after_row(criteria, 8, row(math.nan)) == (state, None)
    assert state.after_row(NEVER, 8, row(0.0)) == (state, None)
    _, stop = state.after_row(criteria, 12345, row(0.25))
    assert stop == Fired("min_gradient_norm", "the gradient's norm is 0.25 at step 12,345")


def test_the_change_is_between_rows_in_which_episodes_ended() -> None:
    state, criteria = CriteriaState(), Stopping(min_objective_change=1.0)
    for step, mean in enumerate([3.0, 4.0, None, 2.5, None, None]):
        state, stop = state.after_row(criteria, step, row(1.0, mean))
        assert stop is None
    assert state.last_return == 2.5
    state, stop = state.after_row(criteria, 2000, row(1.0, 2.0))
    assert stop == Fired("min_objective_change", "the return changed by -0.5 up to step 2,000")
    assert state.last_return == 2.0


def test_the_first_return_is_no_change() -> None:
    state, stop = CriteriaState().after_row(Stopping(min_objective_change=100.0), 1, row(mean=0.0))
    assert stop is None
    assert state.after_row(NEVER, 2, row(mean=0.0)) == (state, None)


def test_patience_counts_evaluations_since_the_best_and_equal_is_no_better() -> None:
    state, criteria, seen = CriteriaState(), Stopping(patience=2), []
    for step, mean in enumerate([1.0, 0.5, 3.0, 3.0, math.nan], 1):
        state, stop = state.after_evaluation(criteria, 10 * step, mean)
        seen.append((stop, state.best_step, state.waited))
    assert seen[:4] == [(None, 10, 0), (None, 10, 1), (None, 30, 0), (None, 30, 1)]
    assert seen[4] == (
        Fired("patience", "no evaluation was better than 3.0 at step 30 for 2 evaluations"),
        30,
        2,
    )
    assert state.best_return == 3.0


def test_without_patience_the_best_is_known_all_the_same() -> None:
    state = CriteriaState()
    for step, mean in [(1, -5.0), (2, -4.0), (3, -6.0)]:
        state, stop = state.after_evaluation(NEVER, step, mean)
        assert stop is None
    assert (state.best_return, state.best_step, state.waited) == (-4.0, 2, 1)


@pytest.mark.parametrize(
    "state", [CriteriaState(), CriteriaState(2.5, 10, 3, -1.0), CriteriaState(-1e30, 2**40, 0, 0.0)]
)
def test_what_criteria_have_seen_survives_json(state: CriteriaState) -> None:
    text = json.dumps(state.to_dict(), allow_nan=False)
    assert CriteriaState.from_dict(json.loads(text)) == state


# ------------------------------------------------------------------------------------------------- target_return


def test_target_return_stops_at_the_first_evaluation_that_reaches_it(tmp_path: Path) -> None:
    result = train(run_dir=tmp_path, eval_every=EVERY, target_return=RETURN)
    assert (result.reason, result.steps) == ("target_return", EVERY)
    assert result.why == f"the evaluations at step {EVERY} gave {RETURN} and {RETURN}"
    summary = read(tmp_path)
    assert (summary["reason"], summary["why"], summary["steps"]) == ("target_return", result.why, EVERY)
    assert summary["best"] == {"step": EVERY, "mean_return": RETURN}
    assert result.evaluation is not None
    assert result.evaluation.mean == summary["evaluation"]["mean_return"] == RETURN
    assert evaluations(tmp_path) == {EVERY: RETURN}
    assert folder.all_steps(tmp_path / "checkpoints") == [EVERY]
    assert len(result.metrics["step"]) == EVERY // ROWS


def test_a_target_just_above_is_never_reached() -> None:
    result = train(eval_every=EVERY, target_return=math.nextafter(RETURN, math.inf))
    assert (result.reason, result.why, result.steps) == ("total_timesteps", "", TOTAL)


def test_one_lucky_evaluation_is_not_enough() -> None:
    """With one episode an evaluation is a drawn number: the sign makes the first of the two the larger one."""
    loop = training.initialize(AGENT.prepared(), on_device(Lottery(1.0)), jax.random.key(0))
    policy = Policy(AGENT, STEADY.spec, loop.agent_state.actor)

    def draws(env: DeviceEnv) -> list[float]:
        return [rlgd.evaluate(policy, env, episodes=1, seed=seed).mean for seed in (EVAL_SEED, EVAL_SEED + 1)]

    env = next(env for env in (on_device(Lottery(sign)) for sign in (1.0, -1.0)) if np.diff(draws(env)) < 0)
    first, second = draws(env)
    assert first > second + 0.01
    options: dict[str, Any] = {"eval_every": EVERY, "eval_episodes": 1, "total_timesteps": 2 * EVERY}
    assert train(env=env, target_return=first, **options).reason == "total_timesteps"
    lower = train(env=env, target_return=second, **options)
    assert (lower.reason, lower.steps) == ("target_return", EVERY)


@pytest.mark.parametrize("criterion", [{"target_return": RETURN + 1}, {"patience": 1000}])
def test_a_criterion_that_needs_evaluations_gets_twenty(criterion: dict[str, Any], tmp_path: Path) -> None:
    result = train(run_dir=tmp_path, total_timesteps=EVALUATIONS * 2 * ROWS, **criterion)
    assert result.reason == "total_timesteps"
    assert EVALUATIONS == 20
    assert evaluations(tmp_path) == {2 * ROWS * (n + 1): RETURN for n in range(EVALUATIONS)}


def test_the_other_criteria_get_none_but_the_last(tmp_path: Path) -> None:
    train(run_dir=tmp_path, min_gradient_norm=1e-12, max_seconds=1000.0)
    assert evaluations(tmp_path) == {TOTAL: RETURN}


# ------------------------------------------------------------------------------------------------------ patience


def at(env: DeviceEnv, agent: Agent, steps: int) -> TrainResult:
    """A run of exactly this many steps; the learning rate is constant, so that it takes the same path."""
    result = train(agent, env, total_timesteps=steps)
    assert result.steps == steps
    return result


def test_patience_stops_after_so_many_equal_evaluations_and_gives_the_first(tmp_path: Path) -> None:
    result = train(run_dir=tmp_path, eval_every=EVERY, patience=3)
    assert (result.reason, result.steps) == ("patience", 4 * EVERY)
    assert result.why == f"no evaluation was better than {RETURN} at step {EVERY} for 3 evaluations"
    summary = read(tmp_path)
    assert [summary[name] for name in ("reason", "why", "steps")] == ["patience", result.why, 4 * EVERY]
    assert summary["best"] == {"step": EVERY, "mean_return": RETURN}
    assert evaluations(tmp_path) == {EVERY * (n + 1): RETURN for n in range(4)}
    assert folder.all_steps(tmp_path / "best") == [EVERY]
    assert folder.all_steps(tmp_path / "checkpoints") == [4 * EVERY]
    first, last = (numbers(at(STEADY, AGENT, steps).policy) for steps in (EVERY, 4 * EVERY))
    assert first != last
    assert numbers(result.policy) == numbers(rlgd.load(tmp_path)) == numbers(rlgd.load(tmp_path, "best")) == first
    assert numbers(rlgd.load(tmp_path, checkpoint="latest")) == numbers(rlgd.load(tmp_path, 4 * EVERY)) == last
    assert numbers(Policy(AGENT, STEADY.spec, result.state.agent_state.actor)) == last
    assert numbers(train(eval_every=EVERY, patience=3).policy) == first  # without a directory


def test_patience_gives_the_best_policy_where_training_makes_it_worse(tmp_path: Path) -> None:
    result = train(
        SMOOTH, MISLEADING, tmp_path, total_timesteps=SMOOTH_TOTAL, eval_every=BATCH, eval_episodes=1, patience=2
    )
    returns = evaluations(tmp_path)
    best = max(returns, key=lambda step: returns[step])
    assert BATCH < best < SMOOTH_TOTAL // 2
    assert result.steps == best + 2 * BATCH == max(returns)
    assert returns[best] > returns[best + BATCH] > returns[best + 2 * BATCH]
    steps = list(range(BATCH, best + BATCH, BATCH))
    assert [returns[step] for step in steps] == sorted(returns[step] for step in steps)
    summary = read(tmp_path)
    assert summary["reason"] == result.reason == "patience"
    assert summary["best"] == {"step": best, "mean_return": returns[best]}
    assert result.evaluation is not None
    assert result.evaluation.mean == summary["evaluation"]["mean_return"] == returns[best]
    assert folder.all_steps(tmp_path / "best") == [best]
    for policy in (result.policy, rlgd.load(tmp_path)):
        assert numbers(policy) == numbers(at(MISLEADING, SMOOTH, best).policy)
        assert rlgd.evaluate(policy, MISLEADING, episodes=1).mean == returns[best]
    assert rlgd.evaluate(rlgd.load(tmp_path, "latest"), MISLEADING, episodes=1).mean == returns[max(returns)]


def test_without_patience_the_last_policy_is_the_result_and_the_best_is_kept(tmp_path: Path) -> None:
    result = train(SMOOTH, MISLEADING, tmp_path, total_timesteps=SMOOTH_TOTAL // 2, eval_every=BATCH, eval_episodes=1)
    returns = evaluations(tmp_path)
    best = max(returns, key=lambda step: returns[step])
    assert best < result.steps == SMOOTH_TOTAL // 2
    assert numbers(result.policy) == numbers(rlgd.load(tmp_path)) == numbers(rlgd.load(tmp_path, "latest"))
    assert numbers(rlgd.load(tmp_path, "best")) == numbers(at(MISLEADING, SMOOTH, best).policy)
    assert read(tmp_path)["evaluation"]["mean_return"] == returns[SMOOTH_TOTAL // 2]


# --------------------------------------------------------------------------------- what the curves' rows tell


WHOLE = REINFORCE(num_envs=2, hidden_sizes=(), baseline="none", ascent=ASCENT, measure_every=0)


@pytest.mark.parametrize("agent", [AGENT, WHOLE], ids=["a2c", "reinforce"])
def test_no_reward_has_no_gradient_which_stops_the_run_at_its_first_row(agent: Agent, tmp_path: Path) -> None:
    """Nothing is observed and there is no hidden layer: the value function begins as 0, and so is every advantage."""
    result = train(agent, NOTHING, tmp_path, eval_every=EVERY, min_gradient_norm=1e-12)
    assert (result.reason, result.steps) == ("min_gradient_norm", EVERY)
    assert result.why == f"the gradient's norm is 0 at step {ROWS}"
    assert (result.metrics["ascent/gradient_norm"] == 0).all()
    summary = read(tmp_path)
    assert (summary["reason"], summary["why"]) == ("min_gradient_norm", result.why)
    assert summary["best"] == {"step": EVERY, "mean_return": 0.0}


def test_criteria_are_looked_at_when_a_chunk_ends() -> None:
    length = training.chunk_length(AGENT, NOTHING)
    total = 2 * length * ROWS
    result = train(env=NOTHING, total_timesteps=total, min_gradient_norm=1e-12)
    assert (result.reason, result.steps) == ("min_gradient_norm", length * ROWS)
    first_row = max(1, total // (ROWS * 400)) * ROWS
    assert result.why == f"the gradient's norm is 0 at step {first_row}"


def test_a_gradient_above_the_least_norm_goes_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"total_timesteps": SMOOTH_TOTAL // 2, "eval_every": BATCH, "eval_episodes": 1}
    going = train(SMOOTH, MISLEADING, min_gradient_norm=1e-12, **options)
    assert going.reason == "total_timesteps"
    norms = going.metrics["ascent/gradient_norm"]
    assert norms.min() > 0.1
    # Each evaluation ends a chunk of one iteration, which is one row: the first of them below the threshold stops.
    threshold = float(np.sort(norms)[len(norms) // 2])
    stopped = train(SMOOTH, MISLEADING, min_gradient_norm=threshold, **options)
    first = int(np.argmax(norms < threshold))
    assert (stopped.reason, stopped.steps) == ("min_gradient_norm", (first + 1) * BATCH)


def test_a_constant_return_stops_at_the_second_row(tmp_path: Path) -> None:
    result = train(run_dir=tmp_path, eval_every=EVERY, min_objective_change=1e-9)
    assert (result.reason, result.steps) == ("min_objective_change", EVERY)
    assert result.why == f"the return changed by 0 up to step {2 * ROWS}"
    summary = read(tmp_path)
    assert (summary["reason"], summary["why"]) == ("min_objective_change", result.why)
    alone = train(eval_every=ROWS, min_objective_change=1e-9)
    assert (alone.reason, alone.steps) == ("min_objective_change", 2 * ROWS)  # the first row has nothing before it


def test_a_changing_return_goes_on() -> None:
    env = on_device(Lottery(1.0))
    result = train(env=env, eval_every=EVERY, min_objective_change=1e-9)
    assert (result.reason, result.steps) == ("total_timesteps", TOTAL)
    assert (np.abs(np.diff(result.metrics["rollout/episode_return"])) > 1e-9).all()


# --------------------------------------------------------------------------------------------------- max_seconds


class Timed(gymnasium.Env[Any, Any]):
    """Pays 1 in each of ``LENGTH`` steps, each of which takes ``seconds``."""

    observation_space, action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.t = seconds, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(self.seconds)
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t >= LENGTH, False, {}


gymnasium.register("stopping/Timed-v0", f"{__name__}:Timed", max_episode_steps=2 * LENGTH)


def test_max_seconds_stops_a_slow_environment_on_the_host(tmp_path: Path) -> None:
    """A step takes at least its sleep, and no iteration begins when the time is over: never more steps than that."""
    pause, limit = 0.02, 1.5
    train(env="stopping/Timed-v0", total_timesteps=ROWS)  # compiles
    options: dict[str, Any] = {"env_args": {"seconds": pause}, "total_timesteps": 1000, "eval_episodes": 1}
    result = train(env="stopping/Timed-v0", run_dir=tmp_path, max_seconds=limit, **options)
    assert result.reason == "max_seconds"
    assert result.why == f"1.5 seconds were over at step {result.steps:,}"
    assert ROWS <= result.steps < limit / pause + ROWS
    assert result.steps % ROWS == 0
    summary = read(tmp_path)
    assert (summary["reason"], summary["why"], summary["steps"]) == ("max_seconds", result.why, result.steps)
    assert folder.all_steps(tmp_path / "checkpoints") == [result.steps]


def test_max_seconds_stops_behind_the_first_chunk_on_the_device() -> None:
    length = training.chunk_length(AGENT, STEADY)
    result = train(total_timesteps=10 * length * ROWS, max_seconds=1e-6)
    assert (result.reason, result.steps) == ("max_seconds", length * ROWS)
    assert result.why == f"1e-06 seconds were over at step {length * ROWS:,}"


# ------------------------------------------------------------------------------- bits, resuming, the command line


@pytest.mark.parametrize(
    ("criterion", "stops"),
    [
        ({"target_return": RETURN}, EVERY),
        ({"patience": 2}, 3 * EVERY),
        ({"min_gradient_norm": 1e9}, EVERY),
        ({"min_objective_change": 1e-9}, EVERY),
        ({"max_seconds": 1e-6}, EVERY),
    ],
    ids=CRITERIA,
)
def test_a_criterion_changes_no_bit_before_it_fires(criterion: dict[str, Any], stops: int) -> None:
    plain, stopped = train(), train(eval_every=EVERY, **criterion)
    assert (stopped.reason, stopped.steps) == (next(iter(criterion)), stops)
    assert set(plain.metrics) == set(stopped.metrics)
    for name, values in stopped.metrics.items():
        np.testing.assert_array_equal(values, plain.metrics[name][: stops // ROWS])


def test_resuming_a_stopped_run_touches_nothing(tmp_path: Path) -> None:
    stopped = train(run_dir=tmp_path, eval_every=EVERY, patience=1)
    before = files(tmp_path)
    again = rlgd.resume(tmp_path, env=STEADY)
    assert (again.reason, again.steps, again.metrics) == ("already complete", stopped.steps, {})
    assert numbers(again.policy) == numbers(stopped.policy)
    assert files(tmp_path) == before


def test_resuming_with_another_criterion_goes_on_as_if_it_had_been_that_one_from_the_start(tmp_path: Path) -> None:
    train(run_dir=tmp_path, eval_every=EVERY, patience=1)
    result = rlgd.resume(tmp_path, env=STEADY, patience=4)
    assert (result.reason, result.steps) == ("patience", 5 * EVERY)
    whole = train(eval_every=EVERY, patience=4)
    assert result.why == whole.why
    assert numbers(result.policy) == numbers(rlgd.load(tmp_path)) == numbers(whole.policy)
    for one, other in zip(*(jax.tree.leaves(r.state.agent_state) for r in (result, whole)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert read(tmp_path, "config.json")["settings"]["patience"] == 4
    assert read(tmp_path)["best"] == {"step": EVERY, "mean_return": RETURN}
    assert list(evaluations(tmp_path)) == [EVERY * (n + 1) for n in range(5)]


def test_resuming_without_the_criterion_goes_to_the_end(tmp_path: Path) -> None:
    train(run_dir=tmp_path, eval_every=EVERY, target_return=RETURN)
    result = rlgd.resume(tmp_path, env=STEADY, target_return=None)
    assert (result.reason, result.steps) == ("total_timesteps", TOTAL)
    assert numbers(result.policy) == numbers(train().policy)
    assert read(tmp_path)["reason"] == "total_timesteps"


def test_resuming_with_more_timesteps_goes_on_under_the_same_criteria(tmp_path: Path) -> None:
    train(run_dir=tmp_path, eval_every=EVERY, target_return=RETURN)
    result = rlgd.resume(tmp_path, env=STEADY, total_timesteps=2 * TOTAL)
    assert (result.reason, result.steps) == ("target_return", 2 * EVERY)


def test_resuming_may_bring_patience_to_a_run_that_was_evaluated_at_its_end_alone(tmp_path: Path) -> None:
    """Evaluations count from then on: the first of them is the best one."""
    train(run_dir=tmp_path)
    result = rlgd.resume(tmp_path, env=STEADY, total_timesteps=2 * TOTAL, patience=2)
    assert result.reason == "patience"
    assert result.steps == folder.latest_step(tmp_path / "best") + 2 * (2 * TOTAL // 20)  # type: ignore[operator]
    assert numbers(result.policy) == numbers(rlgd.load(tmp_path))


def interrupt(*_: Any) -> None:
    """Ctrl-C while the first chunk is being compiled."""
    raise KeyboardInterrupt


def test_a_run_with_patience_can_be_loaded_before_its_first_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.DeviceRunner, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(run_dir=tmp_path, eval_every=EVERY, patience=1)
    assert numbers(rlgd.load(tmp_path)) == numbers(rlgd.load(tmp_path, "latest"))


def test_a_resumed_run_that_is_interrupted_at_once_can_be_resumed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run_dir=tmp_path, eval_every=EVERY, patience=1)
    with monkeypatch.context() as patch:
        patch.setattr(training.DeviceRunner, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rlgd.resume(tmp_path, env=STEADY, patience=4)
    assert read(tmp_path)["reason"] == "interrupted"
    result = rlgd.resume(tmp_path, env=STEADY)
    assert (result.reason, result.steps) == ("patience", 5 * EVERY)


def test_an_environment_that_cannot_be_evaluated_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    vector = gymnasium.make_vec("CartPole-v1", AGENT.num_envs)
    with pytest.raises(UsageError, match="running vector environment, which cannot evaluate while it trains"):
        train(env=vector, run_dir=tmp_path / "run", target_return=RETURN)
    vector.close()
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    result = train(run_dir=tmp_path, eval_every=EVERY, patience=np.int64(1), target_return=np.float32(RETURN + 1))
    assert result.reason == "patience"
    assert read(tmp_path, "config.json")["settings"]["patience"] == 1


@pytest.fixture
def _no_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line in this process: JAX stays as it is."""
    monkeypatch.setattr(jax_setup, "set_up", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)


in_process = pytest.mark.usefixtures("_no_set_up")
COMMAND = [
    *("train", "a2c", "--env", "stopping/Timed-v0", "--total-timesteps", str(TOTAL), "--eval-every", str(EVERY)),
    *("--num-envs", "2", "--rollout-length", str(LENGTH), "--hidden-sizes", "--eval-episodes", "2"),
    *("--optimizer", "sgd", "--schedule", "constant", "--measure-every", "0"),
]


@in_process
def test_the_command_line_says_what_stopped_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main([*COMMAND, "--target-return", "4", "--run-dir", "run"]) == 0
    out, _ = capfd.readouterr()
    assert f"stopped by --target-return: the evaluations at step {EVERY} gave 4.0 and 4.0\n" in out
    assert "evaluation: mean return 4.0 +- 0.0 over 2 episodes" in out
    assert criteria_of(Path("run")) == dict.fromkeys(CRITERIA) | {"target_return": 4.0}

    before = files(Path("run"))
    assert main.main(["resume", "run"]) == 0
    assert f"already complete ({EVERY} steps)" in capfd.readouterr().out
    assert files(Path("run")) == before

    # The configuration of the run starts another one that stops as it did.
    again = ["train", "a2c", "--config", "run/config.json", "--run-dir", "again", "--json"]
    assert main.main(again) == 0
    out, err = capfd.readouterr()
    assert err == ""
    document = json.loads(out)
    assert (document["run_dir"], document["reason"], document["steps"]) == ("again", "target_return", EVERY)
    assert document["why"] == f"the evaluations at step {EVERY} gave 4.0 and 4.0"
    assert document["best"] == {"step": EVERY, "mean_return": 4.0}
    assert criteria_of(Path("again")) == criteria_of(Path("run"))

    assert main.main(["resume", "run", "--target-return", "5", "--quiet"]) == 0
    assert read(Path("run"))["reason"] == "total_timesteps"
    assert read(Path("run"))["steps"] == TOTAL


MISTAKES = [
    ("--patience", "0", "patience is 0; allowed: a whole number within [1, inf)."),
    ("--target-return", "nan", "target_return is nan; allowed: a number within (-inf, inf)."),
    ("--min-gradient-norm", "0", "min_gradient_norm is 0.0; allowed: a number within (0, inf)."),
    ("--min-objective-change", "-1", "min_objective_change is -1.0; allowed: a number within (0, inf)."),
    ("--max-seconds", "inf", "max_seconds is inf; allowed: a number within (0, inf)."),
]


@in_process
@pytest.mark.parametrize(("flag", "value", "message"), MISTAKES)
def test_a_wrong_flag_gets_one_message_and_exit_code_2(
    flag: str, value: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*COMMAND, flag, value]) == 2
    assert capfd.readouterr() == ("", f"rlgd: error: {message}\n")
    assert list(tmp_path.iterdir()) == []


@in_process
@pytest.mark.parametrize(("flag", "value"), [("--patience", "1.5"), ("--patience", "soon"), ("--max-seconds", "long")])
def test_what_is_no_number_is_refused(flag: str, value: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main([*COMMAND, flag, value]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert flag in err


@in_process
def test_a_wrong_flag_of_resume_gets_one_message(capfd: pytest.CaptureFixture[str]) -> None:
    train(env="stopping/Timed-v0", run_dir=Path("run"), total_timesteps=ROWS)
    before = files(Path("run"))
    assert main.main(["resume", "run", "--total-timesteps", "100", "--patience", "0"]) == 2
    assert capfd.readouterr().err == "rlgd: error: patience is 0; allowed: a whole number within [1, inf).\n"
    assert files(Path("run")) == before
