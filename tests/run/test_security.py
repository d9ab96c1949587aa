"""Files from strangers: they run no code, write nothing outside the run, and take no more memory than they need."""

import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tensorstore

import rlgd
from rlgd.agents import A2C
from rlgd.cli import jax_setup, main
from rlgd.run.checkpoints.manifest import MANIFEST, file_digest, files_of, sealed

ROOT = Path(rlgd.__file__).resolve().parent.parent

DANGEROUS = re.compile(
    r"pickle|dill\b|joblib|marshal|shelve|yaml|\beval\(|\bexec\(|__import__|import_module|msgpack|serialize_executable"
    r"|shell=True|os\.system|os\.popen|bind_all|0\.0\.0\.0|mktemp\b|urllib|requests|http\.|socket|getattr\(import",
    re.IGNORECASE,
)
# file: what it may hold of these, and why
EXPLAINED = {
    # closed tables of our own modules
    "rlgd/faces.py": r"import_module\(home\[name\]\)|import_module\(f\"\{package\}\.\{name\}\"\)",
    "rlgd/cli/commands.py": r"import_module\(self\.module\)",
    "rlgd/envs/suites/catalog.py": r"import_module\(suite\.module\)",
    "rlgd/envs/host/envpool.py": r'import_module\("envpool"\)',
    "rlgd/agents/registry.py": r"import_module\(module\)",
    "rlgd/run/sinks/registry.py": r"import_module\(module\)",
    # the module of a part of a user, who typed its name, trusts its package, or installed it
    "rlgd/plugins.py": r"import_module\(module\)",
    # ale-py; and the module in front of an id, which a user typed: out of files such ids are refused before;
    # and whether an info can be pickled, without reading what was written
    "rlgd/envs/host/maker.py": r'import_module\("ale_py"\)|import_module\(module\)|ForkingPickler|cannot be pickled',
    "rlgd/envs/check/checker.py": r"import_module\(module\)",  # `check-env module:ID`: named on the command line
    "rlgd/envs/host/workers.py": r"CloudpickleWrapper|ForkingPickler|pickle",  # to our own worker processes
    "rlgd/envs/host/parcel.py": r"pickle|ForkingPickler|CloudpickleWrapper",  # to our own worker processes
    "rlgd/envs/host/randomness.py": r"import pickle|pickle\.dumps",  # states of generators, only to compare them
    "rlgd/envs/check/worker.py": r"CloudpickleWrapper|ForkingPickler|pickle",  # to our own worker process
    "rlgd/tuning/elsewhere.py": r"cloudpickle",  # as for studies
    "rlgd/studies/elsewhere.py": r"cloudpickle",  # to workers of our own, which nobody else sends anything
    "rlgd/engines/ray_cluster.py": r"import socket|socket\.create_connection",  # whether a cluster answers
    # between the processes of a run, which know each other by a token; only that one has ended is said
    "rlgd/system/watch.py": r"socket|ctypes",
    "rlgd/system/lock.py": r"import socket|socket\.gethostname\(\)",  # the host's name
    "rlgd/run/sinks/tensorboard.py": r"import socket|socket\.gethostname\(\)",  # the host's name
    # inside the process
    "rlgd/system/signals.py": r"import socket|socket\.socketpair\(\)|socket\.SHUT_WR|the wake-up socket",
}


def sources() -> dict[str, Path]:
    """The package's files, by the names under which they are installed."""
    folders = {"rlgd": ROOT / "rlgd", "rlgd/agents": ROOT / "agents", "rlgd/envs": ROOT / "envs"}
    files = [(name, folder, path) for name, folder in folders.items() for path in folder.rglob("*.py")]
    return {f"{name}/{path.relative_to(folder)}": path for name, folder, path in files}


def test_every_dangerous_call_is_explained() -> None:
    used = set()
    for name, path in sources().items():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.partition("#")[0]
            if DANGEROUS.search(code) and not re.fullmatch(r'\s*""".*|\s*[A-Z][^=()]*', code):
                assert name in EXPLAINED, f"{name}:{number}: {line}"
                assert re.search(EXPLAINED[name], code), f"{name}:{number}: {line}"
                used.add(name)
    assert used == set(EXPLAINED)


@pytest.fixture(scope="module", name="written")
def _written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    agent = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0)
    rlgd.train(agent, "CartPole-v1", total_timesteps=64, eval_episodes=2, run_dir=run)
    return run


def newest(run: Path) -> Path:
    return run / "checkpoints" / "64"


def reseal(run: Path, edit: Callable[[dict[str, Any]], Any] = lambda content: None) -> None:
    """Make the manifest fit again: digests detect damage, not forgery."""
    folder = newest(run)
    content = json.loads((folder / MANIFEST).read_text())
    del content["sha256"]
    content["files"] = {
        name: [path.stat().st_size, file_digest(path)] for name, path in files_of(folder) if path.is_file()
    }
    edit(content)
    (folder / MANIFEST).write_text(sealed(content))


class Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("PWNED",)


def objects(run: Path) -> None:
    for number, (_, path) in enumerate(files_of(newest(run))):
        if number % 2:
            path.write_bytes(pickle.dumps(Payload()))
        else:
            with path.open("wb") as file:
                np.save(file, np.array([Payload()], dtype=object), allow_pickle=True)
    reseal(run)


def edit_config(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def craft(run: Path) -> None:
        path = run / "config.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
        reseal(run, lambda manifest: edit(manifest["about"]))

    return craft


def module_env(run: Path) -> None:
    edit_config(lambda content: content["env"].update(id="evilmod:CartPole-v1"))(run)


def call_as_activation(run: Path) -> None:
    call = "__import__('os').mkdir('PWNED')"
    edit_config(lambda content: content["hyperparameters"].update(activation=call))(run)


def call_as_schedule(run: Path) -> None:
    call = "__import__('os').mkdir('PWNED')"
    edit_config(lambda content: content["hyperparameters"].update(schedule=call))(run)


def deep(name: str) -> Callable[[Path], None]:
    def craft(run: Path) -> None:
        (run / name).write_text("[" * 100_000 + "]" * 100_000)
        if "/" in name and not name.endswith(MANIFEST):
            reseal(run)

    return craft


def edit_array(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def craft(run: Path) -> None:
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{newest(run)}/agent/"}).result()
        key = next(key for key in store.list().result() if b"kernel" in key and key.endswith(b".zarray"))
        header = json.loads(store.read(key).result().value)
        edit(header)
        store.write(key, json.dumps(header).encode()).result()
        reseal(run)

    return craft


def huge_everywhere(run: Path) -> None:
    edit_config(lambda content: content["hyperparameters"].update(hidden_sizes=[2**30, 2**30]))(run)


def outside(name: str) -> Callable[[Path], None]:
    return lambda run: reseal(run, lambda content: content["files"].update({name: [1, "0" * 64]}))


def linked(name: str, target: str) -> Callable[[Path], None]:
    def craft(run: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return craft


def counters(**values: Any) -> Callable[[Path], None]:
    def craft(run: Path) -> None:
        (run / "summary.json").unlink()
        reseal(run, lambda content: content["counters"].update(values))
        content = json.loads((run / "config.json").read_text())
        content["settings"]["total_timesteps"] = 96
        (run / "config.json").write_text(json.dumps(content))

    return craft


def step(value: Any) -> Callable[[Path], None]:
    return lambda run: reseal(run, lambda content: content.update(step=value))


PACK: dict[str, Callable[[Path], None]] = {
    "objects": objects,
    "module": module_env,
    "activation": call_as_activation,
    "schedule": call_as_schedule,
    "deep config": deep("config.json"),
    "deep manifest": deep("checkpoints/64/manifest.json"),
    "deep metadata": deep("checkpoints/64/agent/_METADATA"),
    "shape": edit_array(lambda header: header.update(shape=[2**40, *header["shape"][1:]])),
    "pieces": edit_array(lambda header: header.update(chunks=[2**20, 2**13])),
    "huge": huge_everywhere,
    "many environments": edit_config(lambda content: content["hyperparameters"].update(num_envs=2**40)),
    "long chunk": edit_config(lambda content: content.update(chunk_length=2**40)),
    "outside": outside("../../x"),
    "absolute": outside("/etc/x"),
    "linked file": linked("checkpoints/64/agent/_METADATA", "/etc/passwd"),
    "linked config": linked("config.json", "/etc/passwd"),
    "step nan": step(float("nan")),
    "step infinite": step(float("inf")),
    "step negative": step(-64),
    "rows negative": counters(rows=-5),
    "rows infinite": counters(rows=float("inf")),
    "seconds nan": counters(training_seconds=float("nan")),
    "pending": counters(pending={"train/objective": "text"}),
    "pending of other metrics": counters(pending={"foo": [1.0]}),
    "pending of two lengths": counters(pending={"a": [1.0], "b": []}),
    "evaluated at": counters(evaluated_at="x"),
    "stop": counters(stop=[]),
    "criteria": counters(criteria=[1]),
    "criteria of an earlier version": counters(watch=[1]),
    "criteria of text": counters(criteria={"best_return": "x", "best_step": 0, "waited": 0, "last_return": None}),
    "criteria of steps": counters(criteria={"best_return": 1.0, "best_step": "/", "waited": 0, "last_return": None}),
    "size infinite": lambda run: reseal(run, lambda content: content["files"].update(x=[float("inf"), "0"])),
}
COUNTERS = {name for name in PACK if name.startswith(("rows", "seconds", "pending", "evaluated", "stop", "criteria"))}
HARMLESS = {"eval": COUNTERS | {"many environments"}, "resume": {"pending of other metrics"}}
EVIL = "from pathlib import Path\nPath('PWNED').mkdir()\n"


@pytest.fixture(name="run")
def _run(tmp_path: Path, written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run, where a module lies beside that must not be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evilmod.py").write_text(EVIL)
    return Path(shutil.copytree(written, tmp_path / "run"))


def listing(place: Path) -> list[str]:
    return sorted(str(path) for path in place.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("command", ["eval", "resume", "play"])
@pytest.mark.parametrize("name", PACK)
def test_a_crafted_run_does_no_harm(
    name: str, command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PACK[name](run)
    before = listing(tmp_path)
    passwords = Path("/etc/passwd").read_bytes()
    code = main.main([command, "run", "--quiet", *(["--episodes", "1"] if command != "resume" else [])])
    error = capsys.readouterr().err
    if name not in HARMLESS.get(command, HARMLESS["eval"]):
        assert code in (2, 5), error
        assert error.startswith("rlgd: error: ")
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("PWNED"))
    assert "evilmod" not in sys.modules
    assert Path("/etc/passwd").read_bytes() == passwords
    assert [path for path in listing(tmp_path) if path not in before and not path.startswith(str(run))] == []


# Quick of large arrays and of large files; that the others are refused is quick above.
BOMBS = ["shape", "huge", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pieces", "deep metadata"))]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_neither_memory_nor_time(name: str, run: Path) -> None:
    PACK[name](run)
    # A process between: what a process is forked from counts as its own memory.
    script = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "rlgd", "eval", "run", "--quiet", "--episodes", "1"])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(done.returncode, used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    code, memory, seconds = done.stdout.split()
    assert code in ("2", "5"), done.stderr
    assert int(memory) < 10**9
    assert float(seconds) < 20  # 10 s are promised, on a machine of the usual speed


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.lock", "checkpoints", "summary.json", "config.json.rlgd.tmp"])
def test_a_resumed_run_is_written_in_its_directory_alone(name: str, run: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    shutil.copytree(run / "checkpoints", target) if name == "checkpoints" else target.write_text("mine")
    before = {path: path.read_bytes() for path in [target, *target.rglob("*")] if path.is_file()}
    linked(name, str(target))(run)
    main.main(["resume", "run", "--total-timesteps", "128", "--quiet"])
    assert {path: path.read_bytes() for path in [target, *target.rglob("*")] if path.is_file()} == before


def test_rows_from_a_stranger_are_read_with_care(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    evil = ["[" * 100_000, '{"step": 1e999, "seconds": 0}', "x" * 2**21, '{"step": 1}']
    evil += ['{"step": 1e300, "seconds": 0}', '{"step": 1, "seconds": 0, "\\ud800": 1}', '{"step": -1, "seconds": 0}']
    (run / "metrics.jsonl").write_text("\n".join([*evil, *lines]) + "\n")
    assert main.main(["resume", "run", "--total-timesteps", "128", "--quiet"]) == 0
    assert "is damaged; TensorBoard does not show it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["../../../x", "a/../../b", "-x", "*?[", 'tag"><script>alert(1)</script>', " a b ", "ä\n"]
)
def test_run_directories_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that the user names is theirs to name."""
    place = tmp_path / "1" / "2" / "3"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    agent = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0)
    rlgd.train(agent, "CartPole-v1", total_timesteps=64, eval_episodes=2, run_dir=Path(name))
    assert rlgd.load(Path(name))(np.zeros(4)) in (0, 1)


def test_nothing_is_writable_for_all_and_the_cache_is_private(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in [written, *written.rglob("*")]:
        assert not path.stat().st_mode & (stat.S_IWOTH | stat.S_IWGRP), path
    (tmp_path / "rlgd" / "xla").mkdir(parents=True, mode=0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax_setup._use_compilation_cache()
        assert stat.S_IMODE((tmp_path / "rlgd" / "xla").stat().st_mode) == 0o700
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_run_dumps_no_environment_variables(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((written / "config.json").read_text())
    assert not {"environ", "env_vars", "environment"} & set(content)
    text = "".join(path.read_text(errors="replace") for path in written.rglob("*") if path.is_file())
    assert os.environ["PATH"] not in text


UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]
can_unshare = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare, reason="this system gives its users no networks of their own")
def test_training_needs_no_network(tmp_path: Path) -> None:
    flags = ["--env", "CartPole-v1", "--num-envs", "4", "--rollout-length", "8", "--total-timesteps", "64", "--quiet"]
    argv = [*UNSHARE, sys.executable, "-m", "rlgd", "train", "a2c", *flags, "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
