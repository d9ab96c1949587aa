"""Random generators of an environment's own: copies have different ones, and what all have in common is named."""

import random
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlgd.envs.host.host_env import HostEnv
from rlgd.envs.host.randomness import own_generators
from rlgd.system.log import warn_once


@pytest.fixture(autouse=True)
def _nothing_was_said() -> None:
    warn_once.cache_clear()


class Noise(gymnasium.Env[Any, Any]):
    """Observes what its own generators draw; ``seed`` is theirs. With ``reseed``, ``reset`` seeds them."""

    observation_space, action_space = Box(0.0, 1.0, (5,)), Discrete(2)

    def __init__(self, seed: int | None = 0, reseed: bool = False) -> None:
        self.reseed = reseed
        self._make(seed)

    def _make(self, seed: int | None) -> None:
        self.rng = np.random.default_rng(seed)
        self.nested = {"old": [np.random.RandomState(seed)], "python": random.Random(seed)}
        self.others = (np.random.Generator(np.random.MT19937(seed)), np.random.Generator(np.random.SFC64(seed)))

    def _obs(self) -> Any:
        old: Any = self.nested["old"]
        python: Any = self.nested["python"]
        drawn = [self.rng.random(), old[0].random(), python.random(), *(other.random() for other in self.others)]
        return np.array(drawn, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self.reseed:
            self._make(seed)
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        return self._obs(), 0.0, False, False, {}


class Blurred(gymnasium.ObservationWrapper[Any, Any, Any]):
    """A wrapper with a generator of its own."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.rng = np.random.default_rng(3)

    def observation(self, observation: Any) -> Any:
        return (observation + self.rng.random(5).astype(np.float32)) / 2


def drawn(env: HostEnv, num_envs: int = 3) -> Any:
    vector = env.open(num_envs)
    seen = [vector.reset(0), vector.step(np.zeros(num_envs, int)).obs]
    vector.close()
    return np.stack(seen)


@pytest.mark.parametrize("made", [Noise(), Blurred(Noise())], ids=["plain", "wrapped"])
def test_copies_of_an_environment_draw_different_numbers(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    here = drawn(HostEnv.of(made, vectorization="sync"))
    for first in range(3):
        for second in range(first):
            assert (here[:, first] != here[:, second]).all()
    np.testing.assert_array_equal(drawn(HostEnv.of(made, vectorization="sync")), here)
    assert not caplog.messages


def test_the_first_copy_draws_what_the_environment_would_draw() -> None:
    np.testing.assert_array_equal(drawn(HostEnv.of(Noise(4)), 2)[0, 0], Noise(4).reset()[0])


def test_copies_in_worker_processes_draw_the_same_as_here() -> None:
    one, other = (drawn(HostEnv.of(Blurred(Noise()), vectorization=way), 2) for way in ("sync", "async"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("source", [Noise, lambda: gymnasium.wrappers.TimeLimit(Blurred(Noise()), 5)])
def test_generators_that_all_environments_have_in_common_are_named(
    source: Any, caplog: pytest.LogCaptureFixture
) -> None:
    env = HostEnv.of(source, vectorization="sync")
    drawn(env, 1)
    assert not caplog.messages
    seen = [drawn(env) for _ in range(2)]
    assert (seen[0][:, 0] == seen[0][:, 1]).all()
    named = {message.split("its random generator ")[1].split(" ")[0] for message in caplog.messages}
    expected = {"Noise.rng", "Noise.nested['old'][0]", "Noise.nested['python']", "Noise.others[0]", "Noise.others[1]"}
    assert named == expected | ({"Blurred.rng"} if source is not Noise else set())
    assert len(caplog.messages) == len(named)
    assert "Seed it in reset(seed=...), or draw from self.np_random." in caplog.text


@pytest.mark.parametrize("arguments", [{"seed": None}, {"reseed": True}])
def test_generators_that_differ_or_are_seeded_are_fine(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    drawn(HostEnv.of(lambda: Noise(**arguments), vectorization="sync"))
    drawn(HostEnv.of(lambda: gymnasium.make("CartPole-v1"), vectorization="sync"), 2)
    assert not caplog.messages


@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.PRNGKey(0)], ids=["typed", "raw"])
def test_a_key_of_jax_is_the_same_in_all_copies_and_named(key: Any, caplog: pytest.LogCaptureFixture) -> None:
    made: Any = Noise(None)
    made.key = key
    drawn(HostEnv.of(made, vectorization="sync"))
    (message,) = caplog.messages
    assert "its random generator Noise.key begins alike" in message


def test_a_loop_of_references_is_walked_once() -> None:
    made: Any = Noise()
    made.itself, made.library = [made], np  # the generator of a module is nobody's own
    assert len(own_generators(made)) == 5
