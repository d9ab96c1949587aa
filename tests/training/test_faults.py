"""What is not finite in an iteration, which of it was the first, and the error that says so."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.agents.base.faults import FAULTS, FINITE, GRADIENT, OBJECTIVE, OBSERVATION, PARAMETERS, REWARD
from rlgd.errors import Diverged, EnvironmentFault
from rlgd.pytrees import Rollout
from rlgd.training.faults import Fault, explained, find_faults, take_fault

T, N = 3, 2
SOUND = jnp.zeros(4, jnp.int32)  # of four updates


def rollout(bad: str = "", masked: bool = False) -> Rollout:
    """A rollout with one NaN, which ``masked`` puts in a row that is not a transition."""
    zeros, obs = np.zeros((T, N), np.float32), np.zeros((T, N, 5), np.float32)
    last, final, mask = np.zeros((N, 5), np.float32), np.zeros((1, N, 5), np.float32), np.ones((T, N), bool)
    mask[2, 1] = not masked
    if bad:
        {"reward": zeros, "obs": obs, "last_obs": last, "final_obs": final}[bad][-1, 1] = np.nan
    no = jnp.zeros((T, N), bool)
    return Rollout(
        obs=jnp.asarray(obs),
        action=jnp.zeros((T, N), jnp.int32),
        reward=jnp.asarray(zeros),
        terminated=no,
        truncated=no,
        first=jnp.ones(N, bool),
        last_obs=jnp.asarray(last),
        final_obs=jnp.asarray(final),
        mask=jnp.asarray(mask) if masked else None,
        action_mask=None,
    )


def found(*given: object) -> tuple[int, int, int]:
    faults = find_faults(*given)  # type: ignore[arg-type]
    return int(faults["fault/count"]), int(faults["fault/first"]), int(faults["fault/update"])


def test_a_finite_iteration_has_no_fault() -> None:
    assert found(SOUND, rollout(), {"w": jnp.ones(3), "n": jnp.ones(2, jnp.int32)}) == (0, FINITE, 0)


def test_the_environment_comes_before_the_updates_and_these_before_parameters() -> None:
    updates = SOUND.at[2].set(GRADIENT).at[3].set(OBJECTIVE).reshape(2, 2)
    parameters = jnp.array([1.0, jnp.nan, jnp.inf])
    assert found(SOUND, rollout(), parameters) == (2, PARAMETERS, 0)
    assert found(updates, rollout(), parameters) == (4, GRADIENT, 2)
    assert found(updates, rollout("reward"), parameters) == (5, REWARD, 2)
    for bad, amount in {"obs": 5, "last_obs": 1, "final_obs": 5}.items():
        assert found(SOUND, rollout(bad), jnp.ones(3)) == (amount, OBSERVATION, 0)


@pytest.mark.parametrize("bad", ["reward", "obs"])
def test_rows_that_are_not_transitions_do_not_count(bad: str) -> None:
    assert found(SOUND, rollout(bad), jnp.ones(3))[0] > 0
    assert found(SOUND, rollout(bad, masked=True), jnp.ones(3)) == (0, FINITE, 0)


def test_a_fault_is_taken_from_the_metrics_with_its_iteration() -> None:
    def metrics(count: int) -> dict[str, np.ndarray]:
        first, update = np.array([0, 0, GRADIENT * (count > 0)]), np.array([0, 0, 5])
        faults = {"fault/count": np.array([0, 0, count]), "fault/first": first, "fault/update": update}
        return faults | {"rollout/steps": np.array([8, 8, 9])}

    sound, faulty = metrics(0), metrics(2)
    assert take_fault(sound, 10) is None
    assert take_fault(faulty, 10) == Fault(GRADIENT, iteration=12, update=5, amount=2)
    assert {name: [*values] for name, values in sound.items()} == {"rollout/steps": [8, 8, 9]}
    assert {name: [*values] for name, values in faulty.items()} == {"rollout/steps": [8, 8]}


def test_the_error_says_what_and_where() -> None:
    environment = explained(Fault(REWARD, 12, 5, 1))
    assert isinstance(environment, EnvironmentFault)
    assert str(environment) == "a reward is not finite in iteration 12. The last finite state is kept."
    diverged = explained(Fault(GRADIENT, 12, 5, 1))
    assert isinstance(diverged, Diverged)
    assert str(diverged).startswith("training diverged: the gradient is not finite in iteration 12, update 5. ")
    assert f"{FAULTS[PARAMETERS]} is not finite in iteration 12. " in str(explained(Fault(PARAMETERS, 12, 5, 1)))
