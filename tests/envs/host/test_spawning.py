"""How worker processes are started: with what the script has, beside other threads, or not at all."""

import functools
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from rlgd.envs.host.host_env import HostEnv
from rlgd.envs.host.worker_pipe import Patience
from rlgd.envs.host.workers import WorkerVector
from rlgd.errors import EnvironmentFault
from rlgd.system.log import warn_once
from tests.support.faulty_envs import Faulty, Locked, Slow
from tests.support.scripts import script


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    warn_once.cache_clear()


def test_the_main_module_stays_as_it_is_for_other_threads() -> None:
    main, seen, over = sys.modules["__main__"], set(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.add(sys.modules["__main__"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    HostEnv.of(Faulty, vectorization="async").open(1).close()
    over.set()
    watcher.join()
    assert seen == {main}


REGISTERED = """
import multiprocessing, sys
import gymnasium
import numpy as np
from gymnasium.envs.registration import WrapperSpec
from rlgd.envs import HostEnv
from tests.support.faulty_envs import Faulty

print("ran")
LIMIT = 2

class Robot(Faulty):
    def __init__(self, **kwargs):
        super().__init__(length=LIMIT, **kwargs)

class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        assert multiprocessing.parent_process() is not None or stage == "spaces"
        return 2 * reward

class Outer(gymnasium.Wrapper):
    def __init__(self):
        super().__init__(gymnasium.make("script/Text-v0", disable_env_checker=True))

stage = "spaces"
gymnasium.register("script/Class-v0", entry_point=Robot)
gymnasium.register("script/Text-v0", entry_point="__main__:Robot",
                   additional_wrappers=(WrapperSpec("Doubled", "__main__:Doubled", {}),))
gymnasium.register("script/Held-v0", entry_point=Robot, kwargs={"lock": sys.stdout})  # cannot be sent; nobody needs it

def steps(env):
    vector = HostEnv.of(env, vectorization="async") if callable(env) else HostEnv(env, vectorization="async")
    vector = vector.open(1)
    vector.reset(0)
    found = [(float(step.reward[0]), bool(step.terminated[0])) for step in (vector.step(np.array([3])) for _ in "ab")]
    vector.close()
    return found

print(steps("script/Class-v0"))
print(steps("script/Text-v0"))
print(steps(lambda: gymnasium.make("script/Class-v0")))
print(steps(Outer))
print(steps(lambda: gymnasium.wrappers.TransformReward(Robot(), lambda reward: reward + LIMIT)))
"""


def test_what_a_script_registers_and_defines_reaches_its_workers(tmp_path: Path) -> None:
    out, error = script(tmp_path, REGISTERED).communicate(timeout=120)
    plain, doubled = "[(3.0, False), (3.0, True)]", "[(6.0, False), (6.0, True)]"
    added = "[(5.0, False), (5.0, True)]"
    assert (out.splitlines(), error) == (["ran", plain, doubled, plain, doubled, added], "")


def holding(lock: Any) -> Slow:
    return Slow()


def in_main_only() -> Slow:
    if multiprocessing.parent_process() is not None:
        raise RuntimeError("no licence")
    return Slow()


def ends_its_worker() -> Slow:
    if multiprocessing.parent_process() is not None:
        os._exit(3)
    return Slow()


class Initialized(Slow):
    """Its library is initialized in the main process only."""

    def reset(self, **options: Any) -> Any:
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("not initialized")
        return super().reset(**options)


class Answering(Slow):
    """Its steps return something that is no data."""

    def step(self, action: Any) -> Any:
        return (*super().step(action)[:4], {"answer": lambda: action})


@pytest.mark.parametrize(
    ("maker", "why"),
    [
        (functools.partial(holding, Locked().lock), "it cannot be sent to worker processes .*lock"),
        (in_main_only, "raised RuntimeError.*no licence"),
        (ends_its_worker, "died: exit code 3"),
        (Initialized, "environment 0 raised RuntimeError.*not initialized"),
        (Answering, "an info cannot be pickled: .*lambda"),
    ],
)
def test_where_no_worker_can_run_environments_run_here_and_it_is_said_once(
    maker: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    env = HostEnv.of(maker)
    for _ in range(2):
        vector = env.open(2)
        vector.reset(0)
        assert isinstance(vector.vector, SyncVectorEnv)
        vector.step(np.array([1, 1]))
        vector.close()
    assert multiprocessing.active_children() == []
    assert vector.how == env.how(2)
    assert vector.how.startswith("2 environments in this process (worker processes cannot be used: ")
    (message,) = caplog.messages
    assert message.endswith(" is stepped in this process" + vector.how.partition("in this process")[2] + ".")
    assert re.search(why, message)


def test_what_is_asked_for_is_not_replaced() -> None:
    for env in (HostEnv.of(in_main_only, vectorization="async"), HostEnv.of(in_main_only, timeout=9.0)):
        with pytest.raises(ValueError, match="no licence"):
            env.open(2)


def test_a_fault_of_the_environment_itself_is_reported_as_its_own(caplog: pytest.LogCaptureFixture) -> None:
    made: list[Slow] = []

    def breaks() -> Slow:
        made.append(Slow())
        if len(made) > 2:
            raise RuntimeError("broken")
        return made[-1]

    with pytest.raises(ValueError, match="cannot be made: broken"):
        HostEnv.of(breaks).open(2)
    assert not caplog.messages


class Breaking(Slow):
    """Begins until it is broken, and never in a worker process."""

    broken = False

    def reset(self, **options: Any) -> Any:
        if Breaking.broken or multiprocessing.parent_process() is not None:
            raise RuntimeError("out of order")
        return super().reset(**options)


def test_a_reset_that_fails_everywhere_is_reported_as_in_this_process(caplog: pytest.LogCaptureFixture) -> None:
    vector = HostEnv.of(Breaking).open(2)
    assert isinstance(vector.vector, WorkerVector)
    Breaking.broken = True
    with pytest.raises(EnvironmentFault, match=r"Breaking: environment 0 raised RuntimeError.* in the reset"):
        vector.reset(0)
    vector.close()
    assert multiprocessing.active_children() == []
    assert not caplog.messages


IN_A_POOL = """
import multiprocessing, os

def opened(_):
    import numpy as np
    from rlgd.envs import HostEnv
    from tests.support.faulty_envs import Slow
    os.sched_getaffinity = lambda pid: {0, 1}
    vector = HostEnv.of(Slow).open(2)
    vector.reset(0)
    return vector.how

def crowded(_):
    import resource
    from rlgd.envs import HostEnv
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 6, highest + 6))
    multiprocessing.current_process()._config["daemon"] = False
    return opened(_)

with multiprocessing.get_context("fork").Pool(1) as pool:
    print(*pool.map(opened, [0]), *pool.map(crowded, [0]), sep="\\n")
"""


def test_a_process_that_may_start_none_runs_environments_itself(tmp_path: Path) -> None:
    """A worker of a pool, which is daemonic, and a process without room for more open files."""
    out, error = script(tmp_path, IN_A_POOL).communicate(timeout=120)
    daemonic, crowded = out.splitlines()
    assert daemonic.endswith("cannot be used: daemonic processes are not allowed to have children)"), error
    assert "in this process (worker processes cannot be used" in crowded, error
    assert "Too many open files" in crowded


class Parent(Slow):
    """Starts a process of its own in each reset."""

    def reset(self, **options: Any) -> Any:
        helper = multiprocessing.get_context("fork").Process(target=int)
        helper.start()
        helper.join()
        return super().reset(**options)


def test_an_environment_may_start_processes_of_its_own() -> None:
    vector = HostEnv.of(Parent, vectorization="async").open(1)
    assert vector.reset(0).shape == (1, 2)
    vector.close()
    assert multiprocessing.active_children() == []


STOPPED = """
import numpy as np, time
from rlgd.envs import HostEnv
from tests.support.faulty_envs import Faulty

class Sleepy(Faulty):
    def step(self, action):
        time.sleep(0.8)
        return super().step(action)

vector = HostEnv.of(Sleepy, timeout=1.5).open(2)
vector.reset(0)
print("stepping", flush=True)
print(vector.step(np.array([1, 2])).reward)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.4])
def test_the_time_in_which_everything_is_stopped_does_not_count(after: float, tmp_path: Path) -> None:
    """A terminal's Ctrl-Z and fg, for longer than a step may take."""
    process = script(tmp_path, STOPPED)
    assert process.stdout is not None
    assert process.stdout.readline() == "stepping\n"
    time.sleep(after)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.killpg(process.pid, signal.SIGCONT)
    out, error = process.communicate(timeout=60)
    assert (out, error) == ("[1. 2.]\n", "")


def test_waiting_takes_as_long_as_it_may_and_no_longer() -> None:
    here, there = multiprocessing.Pipe()
    patience, start = Patience(), time.monotonic()
    assert patience.wait([here], 0.7) == []
    assert 0.69 < time.monotonic() - start < 1.4
    assert patience.wait([here], 0.7) == []
    there.send(1)
    assert patience.wait([here], 0.7) == [here]
