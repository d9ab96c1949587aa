"""Worker processes: the same bits as in one process, and no process is left, however they end."""

import functools
import multiprocessing
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from rlgd.envs.host.host_env import MAX_WORKERS, HostEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.envs.host.workers import WorkerVector
from rlgd.errors import UsageError
from tests.support import faulty_envs
from tests.support.faulty_envs import Faulty, Locked, Slow, Tree, Wandering
from tests.support.scripts import script

ACTIONS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=20)
END = 10.0  # seconds to wait for an end that takes a fraction of one


def runs(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for_end(pids: list[int]) -> None:
    deadline = time.monotonic() + END
    while any(map(runs, pids)):
        assert time.monotonic() < deadline, f"still running: {[pid for pid in pids if runs(pid)]}"
        time.sleep(0.02)


def workers_of(vector: HostVector) -> list[int]:
    assert isinstance(vector.vector, WorkerVector)
    return [process.pid for process in vector.vector.processes if process.pid is not None]


def both(env_class: Any, mode: AutoresetMode) -> tuple[HostVector, HostVector]:
    ways = [HostEnv("env", autoreset_mode=mode, vectorization=way, source=env_class) for way in ("sync", "async")]
    one, other = (way.open(2) for way in ways)
    return one, other


@pytest.fixture(params=list(AutoresetMode), scope="module")
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[HostVector, HostVector]]:
    """The same environments in this process and in workers."""
    vectors = both(Wandering, request.param)
    yield vectors
    for vector in vectors:
        vector.close()


def assert_same(one: Any, other: Any) -> None:
    """The same bits and types, in any structure."""

    def bits(leaf: Any) -> tuple[Any, ...]:
        return np.asarray(leaf).dtype, np.shape(leaf), np.asarray(leaf).tobytes()

    assert jax.tree.map(bits, one) == jax.tree.map(bits, other)


def play_both(pair: tuple[HostVector, HostVector], seed: int | None, actions: Any) -> tuple[int, int]:
    """Step both; the number of steps with ends, and of steps with masks."""
    here, there = pair
    ends, masks = 0, 0
    assert_same(here.reset(seed), there.reset(seed))
    for action in actions:
        steps = [vector.step(np.array(action)) for vector in pair]
        assert_same(*steps)
        assert_same(here.action_mask, there.action_mask)
        ends += int(steps[0].first.any())
        masks += here.action_mask is not None
    return ends, masks


@given(seed=st.integers(0, 1000), actions=ACTIONS)
def test_worker_processes_give_the_same_bits(
    pair: tuple[HostVector, HostVector], seed: int, actions: list[tuple[int, int]]
) -> None:
    play_both(pair, seed, actions)
    play_both(pair, None, actions)  # the generators continue


def test_the_same_bits_over_many_episodes(pair: tuple[HostVector, HostVector]) -> None:
    ends, masks = play_both(pair, 3, [(1, 2)] * 100)
    assert ends > 20
    assert masks > 90


def test_trees_of_observations_and_masks_of_several_numbers_are_the_same() -> None:
    pair = both(Tree, AutoresetMode.SAME_STEP)
    ends, masks = play_both(pair, 0, [[[0, 1], [1, 2]]] * 8)
    for vector in pair:
        vector.close()
    assert ends > 0
    assert masks == 8


def test_workers_are_gymnasiums_and_know_no_jax(tmp_path: Path) -> None:
    vector = HostEnv.of(Faulty, vectorization="async", note=str(tmp_path / "note")).open(2)
    assert isinstance(vector.vector, AsyncVectorEnv)
    vector.reset(0)
    noted = dict(line.split() for line in (tmp_path / "note").read_text().splitlines())
    assert noted == {str(pid): "False" for pid in workers_of(vector)}
    vector.close()


def test_closing_ends_all_workers_and_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    register = resource_tracker.register

    def note(name: str, kind: str) -> None:
        names.append(name)
        register(name, kind)

    monkeypatch.setattr(resource_tracker, "register", note)
    vector = HostEnv.of(Faulty, vectorization="async").open(2)
    pids = workers_of(vector)
    assert names
    assert all(map(runs, pids))
    vector.reset(0)
    vector.close()
    vector.close()
    assert not any(map(runs, pids))
    assert not set(pids) & {child.pid for child in multiprocessing.active_children()}
    assert not [name for name in names if Path("/dev/shm", f"sem.{name.strip('/')}").exists()]


def test_a_lambda_and_a_local_class_can_be_sent() -> None:
    class Local(Faulty):
        pass

    vector = HostEnv.of(lambda length: Local(length=length), vectorization="async", length=1).open(1)
    vector.reset(0)
    assert vector.step(np.array([2])).terminated.all()
    assert vector.env_id == "environment"
    vector.close()


def test_an_environment_that_cannot_be_sent_is_refused() -> None:
    locked = Locked()
    held = functools.partial(lambda lock: Faulty(), locked.lock)
    with pytest.raises(
        UsageError, match=r"cannot be made: it cannot be sent to worker processes .*lock.*use vec.*'sync'"
    ):
        HostEnv.of(held, vectorization="async").open(2)
    with pytest.raises(UsageError, match=r"Locked.* cannot be copied .*give its class, its Gymnasium id or a function"):
        HostEnv.of(locked).open(2)


class Growing(Faulty):
    """Each one has one more number in its observation, or one more action, than the one before."""

    made = 0

    def __init__(self, what: str) -> None:
        super().__init__()
        Growing.made += 1
        if what == "observation":
            self.observation_space = Box(-1.0, 1.0, (Growing.made,))
        else:
            self.action_space = Discrete(Growing.made)


@pytest.mark.parametrize("what", ["observation", "action"])
def test_environments_with_different_spaces_are_refused(what: str) -> None:
    with pytest.raises(
        UsageError, match=rf"Growing cannot be made: environment 0 has the {what} space .* one made befo"
    ):
        HostEnv.of(Growing, vectorization="sync", what=what).open(2)


def test_a_fault_while_workers_start_is_reported_and_leaves_no_process() -> None:
    def differing() -> Any:
        env = faulty_envs.Faulty()
        if multiprocessing.parent_process() is not None:
            env.observation_space = Box(-2.0, 2.0, (2,))
        return env

    def raising() -> Any:
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("no display")
        return faulty_envs.Faulty()

    before = set(multiprocessing.active_children())
    with pytest.raises(
        UsageError, match=r"environment 0 has the observation space Box\(-2.0.*one made before it Box\(-1"
    ):
        HostEnv.of(differing, vectorization="async").open(2)
    with pytest.raises(UsageError, match=r"environment 0 raised RuntimeError\('no display'\)"):
        HostEnv.of(raising, vectorization="async").open(2)
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(
    ("env_class", "num_envs", "how"),
    [
        (Slow, 2, r"2 worker processes \(a step takes \d\.?\d* ms\)"),
        (Slow, 1, r"1 environment in this process"),
        (Faulty, 3, r"3 environments in this process \(a step takes \d+\.?\d* us\)"),
        (Slow, MAX_WORKERS + 1, rf"{MAX_WORKERS + 1} environments in this process"),
    ],
)
def test_slow_steps_get_processes_by_default(
    monkeypatch: pytest.MonkeyPatch, env_class: Any, num_envs: int, how: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    vector = HostEnv.of(env_class).open(num_envs)
    vector.close()
    assert isinstance(vector.vector, WorkerVector if "worker" in how else SyncVectorEnv)
    assert re.fullmatch(how, vector.how)


def test_a_timeout_means_worker_processes() -> None:
    vector = HostEnv("CartPole-v1", timeout=30).open(1)
    vector.close()
    assert isinstance(vector.vector, WorkerVector)
    assert vector.mode is AutoresetMode.SAME_STEP
    assert not HostEnv("CartPole-v1", timeout=30).native


def test_an_id_that_the_caller_registered_reaches_the_workers() -> None:
    gymnasium.register("local/Slow-v0", lambda **kwargs: Slow(**kwargs), max_episode_steps=2)
    vector = HostEnv("local/Slow-v0", vectorization="async").open(1)
    vector.reset(0)
    assert [vector.step(np.array([1])).truncated[0] for _ in range(4)] == [False, True, False, True]
    vector.close()
    del gymnasium.registry["local/Slow-v0"]


def read_pids(process: "subprocess.Popen[str]") -> list[int]:
    assert process.stdout is not None
    return [int(pid) for pid in process.stdout.readline().split()]


def test_a_script_needs_no_guard_and_no_closing(tmp_path: Path) -> None:
    """Its classes reach the workers, which do not run the script again, and end with it."""
    process = script(
        tmp_path,
        """
        import numpy as np
        from rlgd.envs import HostEnv
        from tests.support.faulty_envs import Faulty

        print("ran")

        class Mine(Faulty):
            def step(self, action):
                return super().step(action)

        vector = HostEnv.of(Mine, vectorization="async").open(2)
        vector.reset(0)
        print(*(worker.pid for worker in vector.vector.processes))
        print(vector.step(np.array([1, 3])).reward)
        """,
    )
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    first, pids, reward = out.splitlines()
    assert (first, reward) == ("ran", "[1. 3.]")
    assert not any(runs(int(pid)) for pid in pids.split())


WORKERS = """
import functools, multiprocessing, signal, sys, time
import numpy as np
from tests.support.faulty_envs import Faulty
from gymnasium.vector import AutoresetMode
from rlgd.envs.host.checked import make_checked
from rlgd.envs.host.maker import Maker
from rlgd.envs.host.workers import WorkerVector

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it

def start(what="nothing", seconds=0):
    def slowly(number):
        time.sleep(0 if multiprocessing.parent_process() is None else seconds)  # in a worker
        return make(number)

    spaces = (Faulty.observation_space, Faulty.action_space)
    maker = Maker(Faulty, {"what": what, "step": 0, "index": 0})
    make = functools.partial(make_checked, maker=maker, common_spaces=spaces)
    return WorkerVector([functools.partial(slowly, number) for number in range(2)], AutoresetMode.SAME_STEP, 60)
"""


@pytest.mark.parametrize("what", ["nothing", "hang"])
def test_workers_end_when_the_main_process_is_killed(tmp_path: Path, what: str) -> None:
    """Whether they wait for the next step or hang in one."""
    process = script(
        tmp_path,
        WORKERS
        + f"""
vector = start({what!r})
vector.reset(seed=0)
print(*(worker.process.pid for worker in vector.parent_pipes), flush=True)
if {what!r} == "hang":
    vector.step(np.array([1, 1]))
time.sleep(60)
""",
    )
    pids = read_pids(process)
    assert len(pids) == 2
    assert all(map(runs, pids))
    process.kill()
    process.wait()
    wait_for_end(pids)


def test_signals_to_the_whole_group_are_for_the_main_process(tmp_path: Path) -> None:
    """A terminal's Ctrl-C, while workers start too, and a cluster's SIGTERM: workers continue and print nothing."""
    process = script(
        tmp_path,
        WORKERS
        + """
got = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: got.append(number))
print("starting", flush=True)
vector = start()
vector.reset(seed=0)
print(*(worker.process.pid for worker in vector.parent_pipes), flush=True)
while signal.SIGTERM not in got:
    time.sleep(0.01)
print(vector.step(np.array([2, 3]))[1], got[0] == signal.SIGINT)
vector.close()
""",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "starting\n"
    for _ in range(20):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    pids = read_pids(process)
    os.killpg(process.pid, signal.SIGTERM)
    out, error = process.communicate(timeout=60)
    assert (out, error, process.returncode) == ("[2. 3.] True\n", "", 0)
    assert not any(map(runs, pids))


def test_ctrl_c_while_workers_start_ends_them(tmp_path: Path) -> None:
    process = script(
        tmp_path,
        WORKERS
        + """
try:
    print("starting", flush=True)
    start(seconds=30)
except KeyboardInterrupt:
    print("interrupted", multiprocessing.active_children())
""",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "starting\n"
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("interrupted []\n", 0)
