"""The twins on the device against Gymnasium's own environments."""

import dataclasses
import functools
import itertools
import math
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium.envs.toy_text import blackjack as gymnasium_blackjack
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from jax import Array
from numpy.typing import NDArray

import rlgd.envs
from rlgd.envs.device.device_env import DeviceEnv, EnvState, Timestep
from rlgd.envs.functional import blackjack, tabular
from rlgd.envs.functional.blackjack import BlackjackState, Hand
from rlgd.envs.functional.gym_renderer import Rendered
from rlgd.envs.functional.registration import PARTIAL
from rlgd.envs.functional.tabular import TabularParams, TabularState

Numbers = NDArray[Any]
Policy = Callable[[Any, Numbers], Numbers]

N, PLAYED = 2000, 8  # random states and beginnings; whole episodes
ATOL, REWARD_ATOL = 5e-6, 2e-5
P_VALUE = 0.01
ONCE = {"xla_backend_optimization_level": 0}  # halves the compilation of programs that run once and are not under test


@dataclasses.dataclass(frozen=True)
class Case:
    """How a twin is compared.

    Attributes:
        states: ``N`` random ones, as they are handed to both.
        place: puts a state into Gymnasium's environment.
        policy: ``(obs [n, ...], noise [n] in [0, 1)) -> action``, with which the whole episodes are played.
        lasting: the same, but it ends no episode.
        drift: how far observations may be apart at the end of an episode, each side going its own way.
        see: ``(states [n, ...], obs [n, ...])`` -> the numbers that the policies use.
        margin: how far Gymnasium's environment is from where an episode would just have ended, or just not.
        variants: the constants, each time with one of them changed.
    """

    states: Callable[[np.random.Generator], Any]
    place: Callable[[Any, Any], None]
    policy: Policy
    lasting: Policy
    drift: float = 0.0
    see: Callable[[Any, Any], Numbers] = lambda states, obs: columns(obs)
    margin: Callable[[Any], float] = lambda env: math.inf
    variants: Callable[[Any], list[Any]] = lambda params: [
        params._replace(**{name: 1.3 * value + 0.01}) for name, value in params._asdict().items()
    ]


def within(low: Sequence[float], high: Sequence[float]) -> Callable[[np.random.Generator], Numbers]:
    return lambda rng: rng.uniform(low, high, (N, len(low))).astype(np.float32)


def at_random(actions: int) -> Policy:
    return lambda obs, noise: (actions * noise).astype(np.int32)


def always(action: int) -> Policy:
    return lambda obs, noise: np.full(len(noise), action, np.int32)


def continuous(policy: Policy) -> Policy:
    return lambda obs, noise: policy(obs, noise).astype(np.float32)[:, None]


def upright(obs: Numbers, noise: Numbers) -> Numbers:
    """Balances CartPole's pole for good."""
    x, velocity, angle, spin = obs.T
    return (angle + 0.3 * spin + 0.03 * x + 0.06 * velocity > 0).astype(np.int32)


def swinging(obs: Numbers, noise: Numbers) -> Numbers:
    """Pushes the car, or Acrobot, mostly where it moves: higher and higher."""
    return np.where(noise < 0.1, 1, np.where(obs[:, -1] > 0, 2, 0)).astype(np.int32)


def cartpole_margin(env: Any) -> float:
    x, _, angle, _ = env.state
    return min(abs(abs(x) - env.x_threshold), abs(abs(angle) - env.theta_threshold_radians))


def acrobot_margin(env: Any) -> float:
    theta1, theta2, *_ = env.state
    return abs(-math.cos(theta1) - math.cos(theta1 + theta2) - 1)


def hill_margin(env: Any) -> float:
    position, velocity = env.state
    beyond = position - env.goal_position
    return min(beyond, abs(velocity - env.goal_velocity)) if beyond >= 0 else -beyond


def place_numbers(env: Any, state: Numbers) -> None:
    env.state, env.steps_beyond_terminated = state.astype(np.float64), None


def place_pendulum(env: Any, state: Numbers) -> None:
    env.state, env.last_u = state[:2].astype(np.float64), float(state[2])


def place_tabular(env: Any, state: TabularState) -> None:
    env.s, env.lastaction = int(state.place), None if state.action == tabular.NO_ACTION else int(state.action)


def place_blackjack(env: Any, state: BlackjackState) -> None:
    """Hands with the same sum, ace and number of cards; those beyond the second are worth nothing."""
    player, shown = jax.tree.map(int, state.player), int(state.shown)
    env.player = [player.ace, player.total - player.ace] + [0] * (player.cards - 2)
    env.dealer = [shown, int(state.dealer.total) - shown]
    env.dealer_top_card_suit, env.dealer_top_card_value_str = "S", {1: "A", 10: "K"}.get(shown, str(shown))


def at_places(place: Numbers) -> TabularState:
    number = len(place)
    never = jnp.full(number, tabular.NO_ACTION, jnp.int32)
    return TabularState(jnp.asarray(place), jnp.zeros(number), jnp.zeros(number, bool), never)


def other_tables(params: TabularParams) -> list[TabularParams]:
    """The tables, each time with one of them turned around."""
    states, _, outcomes = params.outcomes.shape
    changes: dict[str, Numbers] = {
        "initial": np.linspace(1 / states, 1, states, dtype=np.float32),
        "next_state": states - 1 - params.next_state,
        "reward": -params.reward - 1,
        "terminated": ~params.terminated,
    }
    if outcomes > 1:
        changes["outcomes"] = np.ones_like(params.outcomes)
    if params.action_mask is not None:
        changes["action_mask"] = ~params.action_mask
    return [params._replace(**{name: value}) for name, value in changes.items()]


def table(states: int, actions: int, lasting: int) -> Case:
    return Case(
        states=lambda rng: at_places(rng.integers(0, states, N, np.int32)),
        place=place_tabular,
        policy=at_random(actions),
        lasting=always(lasting),
        variants=other_tables,
    )


def hands(rng: np.random.Generator) -> BlackjackState:
    """Two cards against two, or up to five where they are not too many."""

    def hand(cards: Any) -> Hand:
        return Hand(cards.sum(1, dtype=np.int32), (cards == 1).any(1), (cards != 0).sum(1, dtype=np.int32))

    player, dealer = np.minimum(rng.integers(1, 14, (2, N, 5), np.int32), 10)
    more = np.arange(5) < rng.integers(2, 6, (N, 1))
    player[:, 2:] *= (more & (np.where(more, player, 0).sum(1, keepdims=True) <= 21))[:, 2:]
    return BlackjackState(hand(player), hand(dealer[:, :2]), dealer[:, 0], jnp.zeros(N, bool))


WHOLE: Mapping[str, Case] = {
    "CartPole-v1": Case(
        states=within([-2.6, -4, -0.25, -4], [2.6, 4, 0.25, 4]),  # beyond both bounds
        place=place_numbers,
        policy=at_random(2),
        lasting=upright,
        drift=ATOL,
        margin=cartpole_margin,
    ),
    "Acrobot-v1": Case(
        states=within([-math.pi, -math.pi, -4 * math.pi, -9 * math.pi], [math.pi, math.pi, 4 * math.pi, 9 * math.pi]),
        place=place_numbers,
        policy=swinging,
        lasting=always(1),
        drift=5e-2,  # chaotic
        margin=acrobot_margin,
    ),
    "MountainCar-v0": Case(
        states=within([-1.2, -0.07], [0.6, 0.07]),
        place=place_numbers,
        policy=swinging,
        lasting=always(1),
        drift=1e-5,
        margin=hill_margin,
    ),
    "MountainCarContinuous-v0": Case(
        states=within([-1.2, -0.07], [0.6, 0.07]),
        place=place_numbers,
        policy=continuous(lambda obs, noise: 1.5 * noise * np.sign(obs[:, 1])),
        lasting=continuous(always(0)),
        drift=1e-5,
        margin=hill_margin,
    ),
    "Pendulum-v1": Case(
        states=within([-math.pi, -8, -2], [math.pi, 8, 2]),
        place=place_pendulum,
        policy=continuous(lambda obs, noise: 6 * noise - 3),
        lasting=continuous(always(0)),
        drift=1e-3,
    ),
    "FrozenLake-v1": table(16, 4, lasting=3),
    "FrozenLake8x8-v1": table(64, 4, lasting=3),
    "CliffWalking-v1": table(48, 4, lasting=3),
    "CliffWalkingSlippery-v1": table(48, 4, lasting=3),
    "Taxi-v4": table(500, 6, lasting=0),
    "Blackjack-v1": Case(
        states=hands,
        place=place_blackjack,
        policy=at_random(2),
        lasting=always(1),
        variants=lambda params: [params._replace(dealer_stands=12), params._replace(natural_pays=1.5)],
    ),
}
HIDING: Mapping[str, Case] = {
    # What they hide their cases may know.
    f"rlgd/{name}NoVelocity-v1": dataclasses.replace(WHOLE[f"{name}-v1"], see=lambda states, obs: np.asarray(states))
    for name in ("CartPole", "Pendulum")
}
CASES: Mapping[str, Case] = {**WHOLE, **HIDING}
IDS = sorted(CASES)
LIMITS = {env_id: gymnasium.spec(env_id).max_episode_steps for env_id in IDS}
LIMITED = [env_id for env_id in IDS if LIMITS[env_id]]
TABULAR = [env_id for env_id in IDS if CASES[env_id].variants is other_tables]
CONTINUOUS = [env_id for env_id in IDS if CASES[env_id].drift]


def device(env_id: str) -> DeviceEnv:
    env = rlgd.envs.make(env_id, backend="device")
    assert isinstance(env, DeviceEnv)
    return env


def twin(env_id: str) -> Rendered[Any, Any, Any]:
    env = device(env_id).func_env
    assert isinstance(env, Rendered)
    return env


def original(env_id: str, **kwargs: Any) -> tuple[Any, Any]:
    """Gymnasium's environment, and the one inside its wrappers."""
    env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    env.reset(seed=0)
    return env, env.unwrapped


def columns(obs: Any) -> Numbers:
    """Observations as one array, ``[N, numbers]``, or ``[N]`` of Discrete ones."""
    return np.stack(obs, -1) if isinstance(obs, tuple) else np.asarray(obs)


def row(tree: Any, *index: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def everything(env: Any, states: Any, actions: Numbers, key_data: Array, params: Any) -> Any:
    """All results of the functions of ``env`` in each of the states, for a first observation and for a step."""

    def one(state: Any, action: Array, key_data: Array) -> Any:
        start, move = jax.random.wrap_key_data(key_data)
        first = env.initial(start, params)
        after = env.transition(state, action, move, params)
        return (first, env.observation(first, start, params)), (
            after,
            env.observation(after, move, params),
            env.reward(state, action, after, move, params),
            env.terminal(after, move, params),
            env.state_info(after, params),
        )

    return jax.vmap(one)(states, jnp.asarray(actions), key_data)


@functools.cache
def computed(env_id: str) -> tuple[list[Any], Any, list[Any]]:
    """Constants; ``everything`` for all of them at once, given to the program; and for two, constant in it."""
    rng, env = np.random.default_rng(1), twin(env_id)
    states, choices = CASES[env_id].states(rng), np.array(actions_of(env.action_space, rng))
    actions = choices[rng.integers(0, len(choices), N), np.arange(N)]
    key_data = jax.random.key_data(jax.random.split(jax.random.key(0), (N, 2)))
    variants = [env.default_params, *CASES[env_id].variants(env.default_params)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *variants)

    @functools.partial(jax.jit, compiler_options=ONCE)
    def compute(key_data: Array, stacked: Any) -> Any:
        with_params = functools.partial(everything, env, states, actions, key_data)
        return jax.vmap(with_params)(stacked), [with_params(None), with_params(variants[1])]

    return variants, *jax.device_get(compute(key_data, stacked))


def beginnings(env_id: str) -> tuple[EnvState, Any]:
    """``N`` initial states and their observations."""
    _, _, (((state, obs), _), _) = computed(env_id)
    return EnvState(state, jnp.zeros(N, jnp.int32)), obs


def step(env_id: str, seed: int, state: EnvState, action: Numbers) -> tuple[EnvState, Timestep]:
    return jax.device_get(_step(env_id, seed, state, action, beginnings(env_id)))


@functools.partial(jax.jit, static_argnums=0)
def _step(env_id: str, seed: int, state: EnvState, action: Array, fresh: tuple[EnvState, Any]) -> Any:
    return device(env_id).step(jax.random.key(seed), state, action, fresh)


@functools.cache
def played(env_id: str) -> tuple[Any, Numbers, Any]:
    """States, actions and steps, ``[T, 2 * PLAYED, ...]``, for one step more than the limit.

    The first half of these environments play by the policy, the others never end an episode. The seed of step t is t.
    """
    case, rng, half, rows = CASES[env_id], np.random.default_rng(3), N // 2, []
    state, obs = beginnings(env_id)
    for t in range((LIMITS[env_id] or 100) + 1):
        seen, noise = case.see(state.inner, obs), rng.random(N)
        action = np.concatenate([case.policy(seen[:half], noise[:half]), case.lasting(seen[half:], noise[half:])])
        after, timestep = step(env_id, t, state, action)
        rows.append(row((state, action, timestep), np.r_[:PLAYED, N - PLAYED : N]))
        state, obs = after, timestep.obs
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


class Keys(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """Goes wherever the key of the transition is: shows with which one an environment draws."""

    observation_space, action_space = Box(0.0, 1.0), Discrete(1)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return rng

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(1)

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(())

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros((), bool)


@functools.partial(jax.jit, static_argnums=0, compiler_options=ONCE)
def draws(kind: str, seed: int) -> Array:
    """What environments draw in the step of this seed, ``[N, numbers]``: one for the table's outcome, or cards."""

    def draw(key: Array) -> Array:
        if kind == "outcome":
            return jax.random.uniform(key)[None]
        return jax.vmap(lambda number: blackjack.cards(jax.random.fold_in(key, number), 1)[0])(jnp.arange(21))

    nowhere = EnvState(jnp.zeros(N), jnp.zeros(N, jnp.int32))
    keys = DeviceEnv(Keys(), "keys", None).step_without_reset(jax.random.key(seed), nowhere, jnp.zeros(N))[0].inner
    return jax.vmap(draw)(keys)


@functools.cache
def drawn(kind: str, seed: int) -> Numbers:
    return np.asarray(draws(kind, seed))


class Dice:
    """Stands in for the generator of Gymnasium's ``env``, and draws what the twin drew in environment ``number``.

    A card by the number of those that are in the hand already.
    """

    def __init__(self, env: Any, action: Any, seed: int, number: int) -> None:
        self.env, self.action, self.seed, self.number = env, action, seed, number

    def random(self) -> float:
        return float(drawn("outcome", self.seed)[self.number, 0])

    def choice(self, deck: list[int]) -> int:
        assert deck == gymnasium_blackjack.deck
        hand = self.env.player if self.action else self.env.dealer
        return int(drawn("cards", self.seed)[self.number, len(hand)])


def test_there_is_a_twin_for_every_case() -> None:
    assert rlgd.envs.device_ids() == IDS


@pytest.mark.parametrize("env_id", PARTIAL)
def test_environments_without_velocities_hide_nothing_else(env_id: str) -> None:
    whole = PARTIAL[env_id][1]
    spec, (env, _) = gymnasium.spec(env_id), original(env_id)
    assert (spec.max_episode_steps, spec.reward_threshold) == (LIMITS[whole], gymnasium.spec(whole).reward_threshold)
    other, _ = original(whole)
    shown = [0, 2] if "CartPole" in env_id else [0, 1]
    steps = [env.reset(seed=3)[0]], [other.reset(seed=3)[0][shown]]
    env.action_space.seed(0)
    for _ in range(8):
        action = env.action_space.sample()
        (obs, *rest), (whole_obs, *others) = env.step(action), other.step(action)
        steps[0].append(obs)
        steps[1].append(whole_obs[shown])
        assert rest == others
    np.testing.assert_array_equal(*steps)


@pytest.mark.parametrize("env_id", PARTIAL)
def test_gymnasium_makes_the_environments_of_rlgd_without_jax(env_id: str) -> None:
    code = f"import sys, gymnasium; gymnasium.make('rlgd.envs:{env_id}').reset(); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    env = rlgd.envs.make(env_id, backend="host")
    assert isinstance(env, rlgd.envs.HostEnv)
    assert not env.native  # that would be the twin itself


def test_no_table_is_made_before_it_is_needed() -> None:
    code = "import sys, rlgd.envs.functional.tabular; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "rlgd.envs.functional.tabular" in loaded
    assert not {name for name in loaded if name.startswith("gymnasium.envs.toy_text")}


@pytest.mark.parametrize("env_id", IDS)
def test_spaces_types_and_limit_are_those_of_gymnasium(env_id: str) -> None:
    env, _ = original(env_id)
    ours = twin(env_id)
    assert ours.env_id == env_id
    assert ours.observation_space == env.observation_space
    assert ours.action_space == env.action_space
    assert device(env_id).max_episode_steps == LIMITS[env_id]
    assert device(env_id) is device(env_id)
    obs = jax.eval_shape(lambda key: ours.observation(ours.initial(key), key), jax.random.key(0))
    parts = getattr(ours.observation_space, "spaces", [ours.observation_space])
    for part, space in zip(jax.tree.leaves(obs), parts, strict=True):
        assert (part.shape, part.dtype) == (space.shape, jax.dtypes.canonicalize_dtype(space.dtype))


def actions_of(space: gymnasium.Space[Any], rng: np.random.Generator) -> list[Numbers]:
    """Every action of a Discrete space, or random ones far beyond a Box, each ``[N, ...]``."""
    if isinstance(space, Discrete):
        return [np.full(N, action, np.int32) for action in range(int(space.n))]
    assert isinstance(space, Box)
    return [rng.uniform(1.5 * space.low, 1.5 * space.high, (N, *space.shape)).astype(np.float32)]


@pytest.mark.parametrize("env_id", IDS)
def test_one_step_from_anywhere_equals_gymnasium(env_id: str) -> None:
    case, limit, rng = CASES[env_id], LIMITS[env_id], np.random.default_rng(0)
    env, inner = original(env_id)
    states, flags = case.states(rng), set[tuple[bool, bool]]()
    for seed, actions in enumerate(actions_of(env.action_space, rng)):
        elapsed = rng.integers(limit - 2, limit, N, np.int32) if limit else np.zeros(N, np.int32)
        _, here = step(env_id, seed, EnvState(states, jnp.asarray(elapsed)), actions)
        steps = []
        for i in range(N):
            case.place(inner, row(states, i))
            inner.np_random, env._elapsed_steps = Dice(inner, actions[i], seed, i), int(elapsed[i])
            steps.append(env.step(actions[i]))
            # No rounding that the tolerance allows can end an episode or keep it from ending.
            assert case.margin(inner) > ATOL
        obs, reward, terminated, truncated, _ = zip(*steps, strict=True)
        np.testing.assert_allclose(columns(here.next_obs), obs, rtol=0, atol=ATOL)
        np.testing.assert_allclose(here.reward, reward, rtol=0, atol=REWARD_ATOL)
        np.testing.assert_array_equal(here.terminated, terminated)
        np.testing.assert_array_equal(here.truncated, truncated)
        assert "CartPole" not in env_id or 0.2 < np.mean(terminated) < 0.8
        flags |= set(zip(terminated, truncated, strict=True))
    ends = [False] if "Pendulum" in env_id else [False, True]
    assert flags == set(itertools.product(ends, [False, True] if limit else [False]))


@pytest.mark.parametrize("env_id", IDS)
def test_whole_episodes_with_the_same_actions_equal_gymnasium(env_id: str) -> None:
    case = CASES[env_id]
    states, actions, here = played(env_id)
    for number in range(PLAYED):
        (env, inner), (_, synchronized) = original(env_id), original(env_id)
        case.place(inner, row(states.inner, 0, number))
        rewards: list[float] = []
        for t, action in enumerate(actions[:-1, number]):
            inner.np_random = Dice(inner, action, t, number)
            hidden = 0.0
            if env_id in HIDING:  # the velocities; angles may be whole turns apart
                hidden = np.abs(row(states.inner, t, number)[: len(inner.state)] - inner.state)[1::2].max()
            obs, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            ours = row(here, t, number)
            error = max(np.abs(columns(ours.next_obs) - np.array(obs)).max(), hidden)
            assert error <= case.drift
            np.testing.assert_allclose(ours.reward, reward, rtol=0, atol=REWARD_ATOL + 8 * error)
            assert (ours.terminated, ours.truncated) == (terminated, truncated)
            # What has grown out of rounding can neither have ended the episode nor kept it from ending.
            assert case.margin(inner) > error
            assert states.elapsed[t, number] == t
            if env_id in CONTINUOUS:
                case.place(synchronized, row(states.inner, t, number))
                obs, reward, terminated, *_ = synchronized.step(action)
                np.testing.assert_allclose(ours.next_obs, obs, rtol=0, atol=ATOL)
                np.testing.assert_allclose(ours.reward, reward, rtol=0, atol=REWARD_ATOL)
                assert ours.terminated == terminated
            if terminated or truncated:
                break
        assert terminated or truncated or LIMITS[env_id] is None
        total = here.reward[: len(rewards), number].sum(dtype=np.float64)
        np.testing.assert_allclose(total, sum(rewards), rtol=1e-5)


@pytest.mark.parametrize("env_id", LIMITED)
def test_the_limit_truncates_at_exactly_its_step(env_id: str) -> None:
    states, _, here = played(env_id)
    limit = LIMITS[env_id]
    assert limit is not None
    assert not here.terminated[:, PLAYED:].any()
    np.testing.assert_array_equal(here.truncated[:, PLAYED:].T, [[t + 1 == limit for t in range(limit + 1)]] * PLAYED)
    np.testing.assert_array_equal(states.elapsed[:, PLAYED:].T, [[*range(limit), 0]] * PLAYED)


def chi_square(observed: Mapping[Any, int], probability: Mapping[Any, float]) -> float:
    """The p-value; rare values are counted together, and no impossible value may have been drawn."""
    assert set(observed) <= {key for key, p in probability.items() if p > 0}
    total = sum(observed.values())
    pairs = sorted((total * p, observed.get(key, 0)) for key, p in probability.items() if p > 0)
    cells, rest = [pair for pair in pairs if pair[0] >= 5], [pair for pair in pairs if pair[0] < 5]
    expected, counted = np.array([*cells, *np.sum(rest, axis=0, keepdims=True)] if rest else cells).T
    return 1.0 if len(counted) == 1 else scipy.stats.chisquare(counted, expected).pvalue


def first_deals() -> dict[Any, float]:
    """How probable each first observation of Blackjack is, by Gymnasium's own rules."""
    probability: dict[Any, float] = defaultdict(float)
    for first, second, shown in itertools.product(gymnasium_blackjack.deck, repeat=3):
        hand = [first, second]
        probability[gymnasium_blackjack.sum_hand(hand), shown, gymnasium_blackjack.usable_ace(hand)] += 1 / 13**3
    return probability


@pytest.mark.parametrize("env_id", IDS)
def test_initial_states_are_distributed_as_in_gymnasium(env_id: str) -> None:
    _, obs = beginnings(env_id)
    env, inner = original(env_id)
    if env_id in CONTINUOUS:
        theirs = np.array([env.reset()[0] for _ in range(N)]).T
        for ours, other in zip(obs.T, theirs, strict=True):
            assert scipy.stats.ks_2samp(ours, other).pvalue > P_VALUE
            np.testing.assert_allclose([ours.min(), ours.max()], [other.min(), other.max()], atol=0.003 * np.ptp(other))
        varying = obs.T[np.ptp(obs, axis=0) > 0]
        assert np.abs(np.corrcoef(varying) - np.eye(len(varying))).max() < 0.1
    elif env_id == "Blackjack-v1":
        assert chi_square(Counter(map(tuple, columns(obs).tolist())), first_deals()) > P_VALUE
    else:
        assert chi_square(Counter(obs.tolist()), dict(enumerate(inner.initial_state_distrib))) > P_VALUE


@pytest.mark.parametrize("env_id", IDS)
def test_physics_can_be_vmapped_over_every_constant(env_id: str) -> None:
    variants, together, alone = computed(env_id)
    # The constants that a program contains are more precise than those that are given to it.
    atol = 1e-3 if env_id == "Acrobot-v1" else 1e-5
    for i, expected in enumerate(alone):
        for ours, other in zip(jax.tree.leaves(row(together, i)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, other, rtol=1e-5, atol=atol)
    for i, variant in enumerate(variants[1:], 1):
        assert any(np.abs(leaf[i] * 1.0 - leaf[0]).max() > 2 * atol for leaf in jax.tree.leaves(together)), variant


@pytest.mark.parametrize("env_id", TABULAR)
def test_tables_have_gymnasiums_outcomes_and_probabilities(env_id: str) -> None:
    _, inner = original(env_id)
    params = twin(env_id).default_params
    for state, action in np.ndindex(params.outcomes.shape[:2]):
        probability = np.diff(params.outcomes[state, action], prepend=0)
        others = (table[state, action] for table in (params.next_state, params.reward, params.terminated))
        outcomes = list(zip(probability, *others, strict=True))
        expected = inner.P[state][action]
        np.testing.assert_allclose(outcomes[: len(expected)], expected, rtol=0, atol=1e-7)
        assert not probability[len(expected) :].any()


@pytest.mark.parametrize("env_id", ["CliffWalkingSlippery-v1", "FrozenLake-v1", "FrozenLake8x8-v1"])
def test_outcomes_are_drawn_with_gymnasiums_probabilities(env_id: str) -> None:
    _, inner = original(env_id)
    pairs = list(np.ndindex(twin(env_id).default_params.outcomes.shape[:2]))
    observed: Counter[Any] = Counter()
    for seed in range(len(pairs) // 20):  # each pair a hundred times
        place, action = np.take(np.array(pairs, np.int32), range(seed * N, (seed + 1) * N), axis=0, mode="wrap").T
        _, here = step(env_id, seed, EnvState(at_places(place), jnp.zeros(N, jnp.int32)), action)
        outcomes = (leaf.tolist() for leaf in (place, action, here.next_obs, here.reward, here.terminated))
        observed.update(zip(*outcomes, strict=True))
    expected: dict[Any, float] = defaultdict(float)
    for place, action in pairs:
        for probability, *outcome in inner.P[place][action]:
            expected[place, action, *map(float, outcome)] += probability / len(pairs)
    assert chi_square(observed, expected) > P_VALUE


def test_cards_are_drawn_from_gymnasiums_deck() -> None:
    drawn = np.asarray(blackjack.cards(jax.random.key(2), 100_000))
    probability = {card: n / 13 for card, n in Counter(gymnasium_blackjack.deck).items()}
    assert chi_square(Counter(drawn.tolist()), probability) > P_VALUE
    pairs = Counter(zip(drawn[::2].tolist(), drawn[1::2].tolist(), strict=True))
    both = {(a, b): p * q for a, p in probability.items() for b, q in probability.items()}
    assert chi_square(pairs, both) > P_VALUE


def test_taxi_gives_gymnasiums_action_masks() -> None:
    env, (_, inner) = device("Taxi-v4"), original("Taxi-v4")
    state = EnvState(at_places(np.arange(500, dtype=np.int32)), jnp.zeros(500, jnp.int32))
    mask = jax.device_get(jax.jit(env.action_mask)(state))
    assert (mask.shape, mask.dtype) == ((500, 6), bool)
    for inner.s in range(500):
        *_, info = inner.step(5)
        np.testing.assert_array_equal(mask[inner.s], info["action_mask"])
    assert 0.3 < mask.mean() < 0.6
    assert device("FrozenLake-v1").action_mask(state) is None


@pytest.mark.parametrize("env_id", IDS)
def test_pictures_are_those_of_gymnasium(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    states, *_ = played(env_id)
    ours, pictures = twin(env_id), []
    drawing = ours.render_init()
    for number in range(2):  # the second episode with the renderer that showed the first
        env, inner = original(env_id, render_mode="rgb_array")
        for t in range(6):
            state = row(states.inner, t, number)
            CASES[env_id].place(inner, state)
            drawing, picture = ours.render_image(state, drawing)
            assert (str(picture.dtype), picture.shape[2:]) == ("uint8", (3,))
            np.testing.assert_array_equal(picture, env.render())
            pictures.append(picture.tobytes())
        env.close()
    ours.render_close(drawing)
    assert len(set(pictures)) > 1
