"""Whatever a command line or a file says: a documented exit code, one message, no traceback, nothing lost outside.

``make test`` tries the same 400 inputs each time; ``make test-slow`` others for an hour; ``-s`` shows how
many.
"""

import json
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from rlgd.cli import commands
from rlgd.cli.options import flags_of
from rlgd.run.checkpoints.manifest import sealed
from rlgd.studies.question import FILES, shipped_questions
from tests.fuzz.hostile import Arena, as_toml, as_word, changed, texts, torn, values
from tests.support import small_runs, small_study

SECONDS, SLOW_SECONDS = 20.0, 600.0  # for each kind of input; a round that has begun is finished
ROUND = 50  # inputs
QUICK_ROUNDS = 2


@pytest.fixture(scope="module", name="arena")
def _arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    monkeypatch, before = pytest.MonkeyPatch(), jax.config.values["jax_compilation_cache_dir"]
    arena = Arena(tmp_path_factory.mktemp("arena"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(arena.inside))
    small_runs.train(arena.inside / "run")
    shutil.copytree(arena.inside / "run", arena.inside / "sound")
    yield arena
    print(f"\n{arena.count:,} inputs")
    monkeypatch.undo()
    jax.config.update("jax_compilation_cache_dir", before)


TUNE = (
    *(
        "tune",
        "a2c",
        "--env",
        "CartPole-v1",
        "--search",
        "learning_rate=log:1e-3,1e-2",
        "--trials",
        "2",
        "--seeds",
        "1",
    ),
    *("--fresh-seeds", "0", "--total-timesteps", "64", "--eval-episodes", "2", "--num-envs", "4"),
    *("--rollout-length", "8", "--hidden-sizes", "8", "--measure-every", "0", "--run-dir"),
)


def names_of(command: str, *but: str, **given: Any) -> list[str]:
    """The flags of a command, without some."""
    flags = flags_of(commands.COMMANDS[command].load().Options.defaults(given))
    # These change this process for all tests that follow, or show tracebacks on purpose.
    unwanted = {"device", "deterministic_ops", "autotune", "matmul_precision", "debug", *but}
    return [
        f"--{name.replace('_', '-')}" for name, flag in flags.items() if not flag.is_positional and name not in unwanted
    ]


# Command lines that are sound and train nothing, with the flags that are added to them.
BASES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "train": (
        ("train", "a2c", "--env", "CartPole-v1", "--run-dir", "run"),
        names_of("train", "run_dir", "overwrite", agent="a2c"),
    ),
    "resume": (
        ("resume", "run"),
        ["--keep", "--learning-rate", "--eval-every", "--env", "--env-arg", "--patience", "--checkpoint-every"],
    ),
    "eval": (("eval", "run", "--episodes", "1", "--max-steps", "3"), names_of("eval", "episodes", "max_steps")),
    "play": (("play", "run", "--max-steps", "3"), names_of("play", "video", "max_steps")),
    "study": (("study", "momentum", "--dry-run"), names_of("study", "dry_run")),
    "tune": (("tune", "a2c", "--env", "CartPole-v1"), names_of("tune", "search", agent="a2c")),
    "reproduce": (("reproduce", "classic", "--dry-run"), names_of("reproduce", "dry_run", "out")),
    "list": (("list", "agents"), names_of("list")),
    "nothing": ((), ["--help", "--version", "train", "eval", "list"]),
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A sound command line with flags, values and words that need not be."""
    base, flags = BASES[draw(st.sampled_from(sorted(BASES)))]
    words: list[str] = list(base)
    for _ in range(draw(st.integers(1, 3))):
        with_flag: int = draw(st.integers(0, 5))
        if flags and with_flag:
            words.append(draw(st.sampled_from(flags)))
        with_value: int = draw(st.integers(0, 3))
        if with_value:
            words.append(as_word(draw(values)))
    return words


def flags_in_files() -> st.SearchStrategy[dict[str, Any]]:
    names = [name[2:].replace("-", "_") for name in BASES["train"][1]]
    return st.dictionaries(
        st.one_of(st.sampled_from([*names, "agent", "hyperparameters", "settings"]), texts), values, max_size=4
    )


def tried(strategy: st.SearchStrategy[Any], attack: Callable[[Any], None], slow: bool) -> None:
    """Attack with inputs in rounds, until the time is over."""
    end = time.monotonic() + (SLOW_SECONDS if slow else SECONDS)
    for number in range(QUICK_ROUNDS, sys.maxsize) if slow else range(QUICK_ROUNDS):
        if time.monotonic() > end:
            return

        @seed(number)
        @settings(max_examples=ROUND, derandomize=False, suppress_health_check=list(HealthCheck), deadline=None)
        @given(strategy)
        def attempt(value: Any) -> None:
            attack(value)

        attempt()


EFFORTS = [False, pytest.param(True, marks=pytest.mark.slow)]


@pytest.mark.parametrize("slow", EFFORTS)
def test_command_lines(arena: Arena, slow: bool) -> None:
    def attack(words: list[str]) -> None:
        arena.attack(*words)

    tried(command_lines(), attack, slow)


@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, True])
def test_files_of_flags(arena: Arena, slow: bool) -> None:
    sound = as_toml({"agent": "a2c", "env": "CartPole-v1", "learning_rate": 0.1, "hidden_sizes": [8]})
    texts_of_files = st.one_of(
        flags_in_files().map(as_toml), flags_in_files().map(json.dumps), torn(sound), st.binary(max_size=50)
    )

    def attack(content: Any) -> None:
        for name in ("flags.toml", "flags.json"):
            data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            (arena.inside / name).write_bytes(data)
            arena.attack("train", "a2c", "--env", "CartPole-v1", "--run-dir", "run", "--config", name)

    tried(texts_of_files, attack, slow)


@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, True])
def test_files_of_studies(arena: Arena, slow: bool) -> None:
    shipped = st.sampled_from([(FILES / f"{name}.toml").read_text("utf-8") for name in shipped_questions()])

    def attack(text: str) -> None:
        (arena.inside / "own.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
        arena.attack("study", "own.toml", "--dry-run")

    tables = (
        shipped.map(tomllib.loads)
        .flatmap(changed)
        .map(lambda content: as_toml(content) if isinstance(content, dict) else str(content))
    )
    tried(st.one_of(shipped.flatmap(torn), tables), attack, slow)


@st.composite
def crafted_runs(draw: st.DrawFn, run: Path) -> tuple[str, str, list[str]]:
    """A file in a directory of a run, another content for it, and a command."""
    manifest = f"checkpoints/{small_runs.TOTAL}/manifest.json"
    name = draw(st.sampled_from(["config.json", "config.json", manifest, "summary.json", "metrics.jsonl"]))
    text = (run / name).read_text()
    if name.endswith(".jsonl") or not draw(st.integers(0, 3)):
        text = draw(torn(text))
    else:
        content = draw(changed(json.loads(text)))
        sign = name == manifest and isinstance(content, dict)
        text = (
            sealed({key: value for key, value in content.items() if key != "sha256"}) if sign else json.dumps(content)
        )
    command = draw(
        st.sampled_from(
            [
                ["eval", "crafted", "--episodes", "1", "--max-steps", "3"],
                ["resume", "crafted"],
                ["train", "a2c", "--run-dir", "run", "--config", "crafted/config.json"],
            ]
        )
    )
    return name, text, command


@pytest.mark.parametrize("slow", EFFORTS)
def test_directories_of_runs(arena: Arena, slow: bool) -> None:
    sound, crafted = arena.inside / "sound", arena.inside / "crafted"

    def attack(case: tuple[str, str, list[str]]) -> None:
        name, text, command = case
        shutil.rmtree(crafted, ignore_errors=True)
        shutil.copytree(sound, crafted)
        (crafted / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        arena.attack(*command)

    tried(crafted_runs(sound), attack, slow)


@st.composite
def crafted_lines(draw: st.DrawFn, folder: Path, *names: str) -> tuple[str, str]:
    """A file in a directory, with one line of JSON changed or some text torn."""
    name = draw(st.sampled_from(names))
    text = (folder / name).read_text()
    if not draw(st.integers(0, 3)):
        return name, draw(torn(text))
    lines = text.splitlines() if name.endswith((".jsonl", ".log")) else [text]
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = json.dumps(draw(changed(json.loads(lines[number]))))
    return name, "\n".join(lines) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("kind", "files", "command"),
    [("study", ("study.json", "members.jsonl"), ("study", "resume")), ("search", ("journal.log", "best.json"), TUNE)],
)
def test_directories(arena: Arena, kind: str, files: tuple[str, ...], command: tuple[str, ...], slow: bool) -> None:
    sound, crafted = arena.inside / f"sound-{kind}", arena.inside / "crafted"
    if not sound.exists() and kind == "study":
        small_study.study(study_dir=sound, seeds=1)
    elif not sound.exists():
        assert arena.attack(*TUNE, sound.name)[0] == 0

    def attack(case: tuple[str, str]) -> None:
        name, text = case
        shutil.rmtree(crafted, ignore_errors=True)
        shutil.copytree(sound, crafted)
        (crafted / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        arena.attack(*command, "crafted")

    tried(crafted_lines(sound, *files), attack, slow)
