"""The speed of bare stepping with random actions: in one compiled loop, or through Gymnasium's vector API."""

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
from gymnasium.envs.phys2d.cartpole import CartPoleFunctional
from gymnasium.spaces import Discrete
from jax import Array
from measure import report

STEPS = 1024  # of each environment in a call
LIMIT = 500

Step = Callable[[Any, Any], Any]  # (carry, what it is given) -> (carry, (reward, done))
Loop = tuple[Any, Callable[[Any, Array], Any]]  # the carry, and (carry, key) -> (carry, (reward, done) [STEPS, N])


def rlgd(num_envs: int) -> Loop:
    """The twin of rlgd: beginnings are drawn when some are needed, and a random number serves for 32 actions."""
    from rlgd import envs

    env = envs.make("CartPole-v1", backend="device")
    assert isinstance(env, envs.DeviceEnv)

    def step(carry: Any, given: tuple[Array, Array]) -> Any:
        state, timestep, spare = env.step_with_spare(given[0], carry[0], given[1], carry[1])
        return (state, spare), (timestep.reward, timestep.terminated | timestep.truncated)

    def loop(carry: Any, key: Array) -> Any:
        step_key, action_key = jax.random.split(key)
        numbers = jax.random.bits(action_key, (STEPS // 32, 1, num_envs))
        actions = (numbers >> jnp.arange(32, dtype=jnp.uint32)[None, :, None]).reshape(STEPS, num_envs) & 1
        return jax.lax.scan(step, carry, (jax.random.split(step_key, STEPS), actions.astype(jnp.int32)))

    begin, spare = jax.random.split(jax.random.key(0))
    return (env.reset(begin, num_envs)[0], env.spare(spare, num_envs)), loop


def suite(env_id: str) -> Callable[[int], Loop]:
    """An environment of a suite as training has it; its observations are summed, so that they are computed."""

    def made(num_envs: int) -> Loop:
        from rlgd import envs

        env = envs.make(env_id)
        assert isinstance(env, envs.DeviceEnv)
        space = env.func_env.action_space
        assert isinstance(space, Discrete)
        actions = int(space.n)

        def step(carry: Any, key: Array) -> Any:
            action_key, step_key = jax.random.split(key)
            action = jax.random.randint(action_key, (num_envs,), 0, actions)
            state, timestep, spare = env.step_with_spare(step_key, carry[0], action, carry[1])
            return (state, spare), (timestep.reward, jnp.sum(timestep.obs, dtype=jnp.float32))

        begin, spare = jax.random.split(jax.random.key(0))
        return (env.reset(begin, num_envs)[0], env.spare(spare, num_envs)), (
            lambda carry, key: jax.lax.scan(step, carry, jax.random.split(key, STEPS))
        )

    return made


def in_order(step: Step, num_envs: int) -> Callable[[Any, Array], Any]:
    """The peers' loop as their users write it: each step splits a key, and draws actions and beginnings."""

    def drawing(carry: Any, key: Array) -> Any:
        action_key, step_key = jax.random.split(key)
        return step(carry, (jax.random.randint(action_key, (num_envs,), 0, 2), jax.random.split(step_key, num_envs)))

    return lambda carry, key: jax.lax.scan(drawing, carry, jax.random.split(key, STEPS))


def ahead(step: Step, num_envs: int) -> Callable[[Any, Array], Any]:
    """The same with actions and keys drawn before the loop."""

    def loop(carry: Any, key: Array) -> Any:
        action_key, step_key = jax.random.split(key)
        actions = jax.random.randint(action_key, (STEPS, num_envs), 0, 2)
        return jax.lax.scan(step, carry, (actions, jax.random.split(step_key, (STEPS, num_envs))))

    return loop


def gymnax(num_envs: int) -> tuple[Any, Step]:
    """CartPole of gymnax, whose ``step`` resets by itself."""
    from gymnax import make

    env, params = make("CartPole-v1")

    def step(state: Any, given: tuple[Array, Array]) -> Any:
        action, keys = given
        _, state, reward, done, *_ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        return state, (reward, done)

    _, state = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), num_envs), params)
    return state, step


def phys2d(num_envs: int) -> tuple[Any, Step]:
    """Gymnasium's functional CartPole, with a time limit and a reset in every step."""
    env: Any = CartPoleFunctional()

    def one(action: Array, key: Array, state: Array, elapsed: Array) -> Any:
        following = env.transition(state, action, key)
        reward = env.reward(state, action, following, key)
        done = env.terminal(following, key) | (elapsed + 1 >= LIMIT)
        return (jnp.where(done, env.initial(key), following), jnp.where(done, 0, elapsed + 1)), (reward, done)

    def step(carry: Any, given: tuple[Array, Array]) -> Any:
        return jax.vmap(one)(*given, *carry)

    return (jax.vmap(env.initial)(jax.random.split(jax.random.key(0), num_envs)), jnp.zeros(num_envs, jnp.int32)), step


def looped(
    peer: Callable[[int], tuple[Any, Step]], way: Callable[[Step, int], Callable[[Any, Array], Any]]
) -> Callable[[int], Loop]:
    """The loop of a peer, written in one of the two ways."""

    def loop(num_envs: int) -> Loop:
        begin, step = peer(num_envs)
        return begin, way(step, num_envs)

    return loop


LOOPS: dict[str, Callable[[int], Loop]] = {
    "rlgd": rlgd,
    "gymnax": looped(gymnax, in_order),
    "gymnax-ahead": looped(gymnax, ahead),
    "phys2d": looped(phys2d, in_order),
    "phys2d-ahead": looped(phys2d, ahead),
}
SUITES = ("minatar:", "gymnax:")


def compiled(name: str, num_envs: int) -> Callable[[], int]:
    """Calls a loop, which continues where it was."""
    carry, loop = (LOOPS.get(name) or suite(name))(num_envs)
    program, key = jax.jit(loop), jax.random.key(1)

    def play() -> int:
        nonlocal carry, key
        key, now = jax.random.split(key)
        carry, _ = jax.block_until_ready(program(carry, now))
        return STEPS * num_envs

    return play


def vector(env_id: str, num_envs: int) -> Callable[[], int]:
    """Steps Gymnasium's vector environment, the native one where there is one, with actions that were drawn before."""
    env = gymnasium.make_vec(env_id, num_envs)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(STEPS)]
    env.reset(seed=0)

    def play() -> int:
        for action in actions:
            env.step(action)
        return STEPS * num_envs

    return play


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", help=f"{', '.join(LOOPS)}, or an id")
    parser.add_argument("num_envs", type=int)
    parser.add_argument("--seconds", type=float, default=2.0, help="step for at least so long")
    args = parser.parse_args()
    in_a_loop = args.what in LOOPS or args.what.startswith(SUITES)
    report((compiled if in_a_loop else vector)(args.what, args.num_envs), args.seconds)


if __name__ == "__main__":
    main()
