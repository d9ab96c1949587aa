"""Evaluation against known episodes, or episodes played by Gymnasium alone."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

import rlgd.envs
from rlgd.envs import DeviceEnv, Env, HostEnv
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.evaluation import EvalResult, Policy, evaluate, evaluator
from rlgd.evaluation.evaluator import MAX_HOST_ENVS
from tests.support.probe_envs import ACTIONS, MEDLEYS, ScriptedOnDevice, linear_policy, scripted

MODES = list(AutoresetMode)
CARTPOLE = rlgd.envs.make("CartPole-v1")
ANGLE = np.array([[0.0, 0, -50, 0], [0, 0, 50, 0]])  # pushes to the side that the pole leans to


def cartpole_policy(weights: Any = ANGLE) -> Policy:
    return linear_policy(CARTPOLE.spec, weights, np.zeros(2))


def biased(env: Env, *bias: float, box_distribution: str = "gaussian") -> Policy:
    """A policy whose outputs do not depend on the observation."""
    return linear_policy(env.spec, np.zeros((len(bias), 2)), bias, box_distribution)


@pytest.fixture(scope="module")
def gymnasium_returns() -> NDArray[Any]:
    """Of the policy that looks at the angle only, with nothing but Gymnasium."""
    env, returns = gymnasium.make("CartPole-v1"), []
    for seed in range(300):
        obs, _ = env.reset(seed=10_000 + seed)
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(int(obs[2] > 0))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return np.array(returns)


@pytest.mark.parametrize(
    "env",
    [CARTPOLE, "CartPole-v1", HostEnv("CartPole-v1", autoreset_mode=AutoresetMode.SAME_STEP)],
    ids=["device", "native", "one_by_one"],
)
def test_cartpole_is_the_same_wherever_it_runs(env: Env | str, gymnasium_returns: NDArray[Any]) -> None:
    result = evaluate(cartpole_policy(), env, episodes=300, seed=1)
    assert result.deterministic
    assert (result.returns.dtype, result.lengths.dtype) == (np.dtype(np.float64), np.dtype(np.int64))
    assert (result.returns.shape, result.mean, result.std) == ((300,), result.returns.mean(), result.returns.std())
    np.testing.assert_array_equal(result.returns, result.lengths)
    assert len(np.unique(result.returns)) > 10
    assert scipy.stats.ks_2samp(result.returns, gymnasium_returns).pvalue > 0.01


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("episodes", [1, 2, 5, MAX_HOST_ENVS, MAX_HOST_ENVS + 3, 3 * MAX_HOST_ENVS])
def test_every_environment_plays_its_share(episodes: int, mode: AutoresetMode) -> None:
    """Half of the environments have short episodes: taking the first ones to finish would favour those."""
    script = [[(n, (1, 10)[n % 2], "terminated"), (n + 16, (1, 10)[n % 2], "truncated")] for n in range(16)]
    env = scripted(script, mode)
    result = evaluate(biased(env, *[0.0] * 8), env, episodes=episodes)
    shares = [episodes // 16 + (n < episodes % 16) for n in range(16)]
    lengths = [length for n, share in enumerate(shares) for length in [(1, 10)[n % 2]] * share]
    numbers = [n + 16 * (k % 2) for n, share in enumerate(shares) for k in range(share)]
    np.testing.assert_array_equal(result.lengths, lengths)
    expected = [
        sum(100 * number + 10 * t for t in range(length)) for number, length in zip(numbers, lengths, strict=True)
    ]
    np.testing.assert_array_equal(result.returns, expected)


def test_on_the_device_every_environment_plays_one_episode() -> None:
    steps, limit = (1, 2, 3, 9), 4
    env = DeviceEnv(ScriptedOnDevice(steps, Discrete(8)), "scripted", limit)
    result = evaluate(biased(env, *[0.0] * 8), env, episodes=40)
    assert set(result.lengths) == {1, 2, 3, 4}
    for number, length in enumerate(np.minimum(steps, limit)):
        expected = sum(100 * number + 10 * t for t in range(length))
        np.testing.assert_array_equal(result.returns[result.lengths == length], expected)


@pytest.mark.parametrize(
    "env",
    [scripted([[(0, 40, "terminated")]]), DeviceEnv(ScriptedOnDevice((40,), Discrete(8)), "scripted", 50)],
    ids=["host", "device"],
)
def test_greedy_and_sampled_policies_differ_as_stated(env: Env) -> None:
    """Rewards count the ones: the greedy action is always 1, the sampled one 0 or 1, drawn again each time."""
    policy = biased(env, 0.0, 1e-3, *[-50.0] * 6)
    greedy, sampled = (
        evaluate(policy, env, episodes=4, deterministic=deterministic) for deterministic in (True, False)
    )
    assert (greedy.deterministic, sampled.deterministic) == (True, False)
    base = sum(10 * t for t in range(40))
    np.testing.assert_array_equal(greedy.returns - base, 40)
    assert ((sampled.returns - base > 8) & (sampled.returns - base < 32)).all()
    assert len(np.unique(sampled.returns)) > 1


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("env", [CARTPOLE, "CartPole-v1"], ids=["device", "host"])
def test_the_seed_decides(env: Env | str, deterministic: bool) -> None:
    def play(seed: int) -> EvalResult:
        return evaluate(cartpole_policy(0.02 * ANGLE), env, episodes=10, seed=seed, deterministic=deterministic)

    first, again, other = play(7), play(7), play(8)
    np.testing.assert_array_equal(first.returns, again.returns)
    np.testing.assert_array_equal(first.lengths, again.lengths)
    assert list(first.returns) != list(other.returns)


@pytest.mark.parametrize("what", ["raise", "reward", "observation"])
def test_a_broken_environment_ends_an_evaluation(what: str) -> None:
    env = scripted([[(0, 9, "terminated")]] * 2, fault=(what, 1, 4))
    with pytest.raises(EnvironmentFault, match=r"probes/Scripted-v0.*environment 1\b.*step [45]\b"):
        evaluate(biased(env, *[0.0] * 8), env, episodes=2)


def test_any_function_of_observations_can_be_evaluated() -> None:
    def by_angle(obs: NDArray[Any]) -> NDArray[Any]:
        return (obs[:, 2] > 0).astype(np.int64)

    policy = evaluate(cartpole_policy(), "CartPole-v1", episodes=20)
    np.testing.assert_array_equal(evaluate(by_angle, "CartPole-v1", episodes=20).returns, policy.returns)
    with pytest.raises(UsageError, match="on the device only policies of rlgd"):
        evaluate(by_angle, CARTPOLE)


def test_actions_reach_the_environment_counted_from_its_start() -> None:
    env = HostEnv("probes/ActionsFrom5-v0")
    policy = biased(env, 0.0, 0.0, 1e-3)
    np.testing.assert_array_equal(evaluate(policy, env, episodes=2).returns, sum(10 * t + 7 for t in range(3)))
    sampled = [policy(np.zeros(2), deterministic=False, key=seed) for seed in range(40)]
    assert set(map(int, sampled)) == {5, 6, 7}
    assert {action.dtype for action in sampled} == {np.dtype(np.int64)}


@pytest.mark.parametrize("box_distribution", ["gaussian", "tanh"])
@pytest.mark.parametrize("bias", [(-9.0, -9.0), (9.0, 9.0), (0.0, 0.3)])
def test_box_actions_stay_within_their_bounds(bias: tuple[float, ...], box_distribution: str) -> None:
    """The environment itself refuses what lies outside."""
    env = HostEnv("probes/BoxActions-v0")
    policy, space = biased(env, *bias, box_distribution=box_distribution), ACTIONS["box"]
    for deterministic in (True, False):
        result = evaluate(policy, env, episodes=20, deterministic=deterministic)
        np.testing.assert_array_equal(result.lengths, 3)
    assert all(space.contains(action) for action in policy(np.zeros((200, 2)), deterministic=False, key=0))
    assert isinstance(space, Box)
    squashed = space.low + (space.high - space.low) * (np.tanh(bias) + 1) / 2
    expected = squashed if box_distribution == "tanh" else np.clip(bias, space.low, space.high)
    np.testing.assert_allclose(policy(np.zeros(2)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["Float64-v0", "DiscreteObservations-v0", "OneStep-v0"])
def test_other_observations_and_one_step_episodes(name: str) -> None:
    env = HostEnv(f"probes/{name}")
    features = 100 if name.startswith("Discrete") else 2
    result = evaluate(linear_policy(env.spec, np.zeros((8, features)), np.arange(8)), env, episodes=2)
    steps = 1 if name.startswith("OneStep") else 3
    np.testing.assert_array_equal(result.lengths, [steps, steps])
    np.testing.assert_array_equal(result.returns, sum(10 * t + 7 for t in range(steps)))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Acrobot-v1", r"Acrobot-v1 does not fit the policy: its obs is .*\(6,\).* the policy's is .*\(4,\)"),
        (rlgd.envs.make(MEDLEYS["discrete"], max_episode_steps=3), "its obs is"),
        (HostEnv("probes/Scripted-v0"), "does not fit the policy"),
        (DeviceEnv(MEDLEYS["discrete"], "endless", None), "does not fit the policy"),
    ],
)
def test_an_environment_with_other_spaces_is_refused(env: Env | str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(cartpole_policy(), env)


def test_other_actions_and_no_episodes_are_refused() -> None:
    narrow = scripted([[(0, 3, "terminated")]])
    with pytest.raises(UsageError, match="its action is"):
        evaluate(biased(narrow, *[0.0] * 8), HostEnv("probes/BoxActions-v0"))
    with pytest.raises(UsageError, match="episodes is 0; allowed: a whole number from 1"):
        evaluate(cartpole_policy(), CARTPOLE, episodes=0)
    with pytest.raises(UsageError, match="max_steps is 0; allowed: a whole number from 1"):
        evaluate(cartpole_policy(), CARTPOLE, max_steps=0)


@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize(("own", "most", "length"), [(None, 7, 7), (5, 7, 5), (9, 7, 7), (None, None, 50)])
def test_an_episode_ends_at_max_steps_at_the_latest(
    where: str, own: int | None, most: int | None, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "MAX_STEPS", 50)
    env: Env = DeviceEnv(ScriptedOnDevice((1000,), Discrete(8)), "endless", own)
    if where == "host":
        env = scripted([[(0, 1000, "terminated")]], limit=own)
    result = evaluate(linear_policy(env.spec, np.zeros((8, 2)), np.zeros(8)), env, episodes=3, max_steps=most)
    assert result.lengths.tolist() == [length] * 3


@pytest.mark.parametrize("seed", [-1, None, 1.5, True, "1"])
def test_a_seed_that_is_no_whole_number_is_the_callers_mistake(seed: Any) -> None:
    with pytest.raises(UsageError, match=r"^seed is .*; allowed: a whole number from 0\.$"):
        evaluate(cartpole_policy(), "CartPole-v1", episodes=2, seed=seed)


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    given: dict[str, Any] = {"episodes": np.int64(2), "seed": np.int64(1), "max_steps": np.int32(5)}
    result = evaluate(cartpole_policy(), "CartPole-v1", **given)
    np.testing.assert_array_equal(result.returns, [5, 5])
