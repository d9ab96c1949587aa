"""The command line as a user meets it: real processes, exit codes, one message for each mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlgd import hyperparameters
from rlgd.cli import flags, main

TINY = [
    "--total-timesteps",
    "256",
    "--num-envs",
    "2",
    "--rollout-length",
    "16",
    "--hidden-sizes",
    "4",
    "--eval-episodes",
    "2",
]


def rlgd(*argv: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlgd", *argv]
    return subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module", name="trained")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("cli")
    argv = ["train", "a2c", "--env", "CartPole-v1", *TINY, "--optimizer", "momentum", "--momentum", "0.5"]
    return folder, rlgd(*argv, cwd=folder, XDG_CACHE_HOME=str(folder / "cache"))


def run_of(folder: Path) -> Path:
    return next((folder / "runs" / "CartPole-v1" / "a2c").iterdir())


def test_help_imports_no_jax(tmp_path: Path) -> None:
    code = "import sys; from rlgd.cli.main import main; main(['--help']); main(['train', '--help']); "
    code += "main(['list', 'agents']); assert not {'jax', 'gymnasium', 'tyro'} & set(sys.modules), 'heavy'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: rlgd COMMAND" in done.stdout
    assert "actor-critic" in done.stdout


def test_train_ends_with_the_evaluation_and_what_to_do_next(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = trained
    assert done.returncode == 0, done.stderr
    assert "A2C on cpu; CartPole-v1 on the device" in done.stderr
    assert "256 / 256 steps" in done.stderr
    assert "over 2 episodes in CartPole-v1 (greedy policy)" in done.stdout
    assert f"run:         {run_of(folder).relative_to(folder)}" in done.stdout
    assert "tensorboard --logdir runs" in done.stdout
    cache = folder / "cache" / "rlgd" / "xla"
    assert list(cache.iterdir())
    assert cache.stat().st_mode & 0o077 == 0


def test_the_run_can_be_evaluated_resumed_and_repeated(
    trained: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, _ = trained
    run = str(run_of(folder))
    evaluated = rlgd("eval", run, "--episodes", "3", "--sampled", "--json", cwd=folder)
    assert evaluated.returncode == 0, evaluated.stderr
    result = json.loads(evaluated.stdout)
    assert len(result["returns"]) == result["episodes"] == 3
    assert result["policy"] == "sampled"
    complete = rlgd("resume", run, cwd=folder)
    assert "already complete (256 steps)" in complete.stdout, complete.stderr
    resumed = rlgd("resume", run, "--total-timesteps", "512", "--learning-rate", "1e-4", "--json", cwd=folder)
    assert json.loads(resumed.stdout)["steps"] == 512, resumed.stderr
    argv = [
        "train",
        "a2c",
        "--config",
        f"{run}/config.json",
        "--total-timesteps",
        "128",
        "--json",
        "--run-dir",
        "again",
    ]
    repeated = rlgd(*argv, cwd=tmp_path)
    assert repeated.returncode == 0, repeated.stderr
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (config["hyperparameters"]["momentum"], config["hyperparameters"]["hidden_sizes"]) == (0.5, [4])
    assert config["settings"]["total_timesteps"] == 128


def test_a_toml_file_gives_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flags.toml").write_text('env = "CartPole-v1"\ntotal-timesteps = 64\nhidden_sizes = [4]\nnum_env = 2\n')
    assert main.main(["train", "a2c", "--config", str(tmp_path / "flags.toml")]) == 2
    assert "unknown flag 'num_env'; did you mean 'num_envs'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("flags.toml", "schedule = 5", "schedule is 5; allowed: text"),
        ("flags.toml", 'env = "CartPole-v1"\nschedule = "lin"', "unknown schedule 'lin'; did you mean 'linear'"),
        ("flags.json", '{"hyperparameters": {}}', "is no config.json of this version of rlgd: KeyError('env')"),
        ("flags.json", "[]", "holds no table of flags"),
    ],
)
def test_a_mistake_in_a_file_of_flags(
    name: str, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert main.main(["train", "a2c", "--env", "CartPole-v1", "--config", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_a_flag_is_given_whatever_its_value() -> None:
    argv = ["--max-seconds", "1", "--patience=2", "--no-scale-reward", "-1"]
    assert [
        name for name in ("max_seconds", "patience", "scale_reward", "seed", "1") if flags.is_given(argv, name)
    ] == [
        "max_seconds",
        "patience",
        "scale_reward",
    ]


MISTAKES = [
    (["trian"], "unknown command 'trian'; did you mean 'train'?"),
    (["train", "pppo", "--env", "CartPole-v1"], "unknown agent 'pppo'; did you mean 'ppo'?"),
    (["train", "ppo"], "--env is missing"),
    (["train", "ppo", "--env", "CartPol-v1"], "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
    (["train", "ppo", "--env", "CartPoleNoVelocity-v1"], "did you mean 'rlgd/CartPoleNoVelocity-v1'"),
    (["train", "ppo", "--env", "cartpole-v1"], "did you mean 'CartPole-v1'"),
    (["train", "ppo", "--env", "CartPole-v1", "--gama", "0.9"], "--gamma"),
    (["train", "ppo", "--env", "CartPole-v1", "--gamma", "2"], "gamma is 2.0; allowed: a number within [0, 1]."),
    (["train", "ppo", "--env", "CartPole-v1", "--learning-rate", "-1"], "learning_rate is -1.0"),
    (["train", "ppo", "--env", "CartPole-v1", "--learning-rate", "nan"], "learning_rate is nan"),
    (["train", "ppo", "--env", "CartPole-v1", "--num-envs", "0"], "num_envs is 0"),
    (
        ["train", "ppo", "--env", "CartPole-v1", "--schedule", "linear:x"],
        "'x' is not a number; allowed: constant, linear",
    ),
    (["train", "ppo", "--env", "CartPole-v1", "--ent-coef-schedule", "linear"], "has no effect: ent_coef is 0"),
    (["train", "ppo", "--env", "CartPole-v1", "--patience", "0"], "patience is 0; allowed: a whole number within"),
    (["train", "ppo", "--env", "CartPole-v1", "--optimizer", "lion", "--epsilon", "1"], "lion does not use it"),
    (["train", "ppo", "--env", "CartPole-v1", "--num-envs", "8x"], "num-envs"),
    (["train", "ppo", "--env", "CartPole-v1", "--num-minibatches", "7"], "nearest that do: 2, 4, 8"),
    (["train", "ppo", "--env", "CartPole-v1", "--optimizer", "adamm"], "unknown optimizer 'adamm'; did you mean 'adam"),
    (["train", "ppo", "--env", "CartPole-v1", "--optimizer", "sgd", "--momentum", "0.9"], "sgd does not use it"),
    (["train", "ppo", "--env", "CartPole-v1", "--total-timesteps", "0"], "total_timesteps is 0"),
    (["train", "ppo", "--env", "CartPole-v1", "--total-timesteps", "1e5.5"], "total-timesteps"),
    (
        ["train", "ppo", "--env", "CartPole-v1", "--backend", "devise"],
        "unknown backend 'devise'; did you mean 'device'",
    ),
    (["train", "ppo", "--env", "LunarLander-v3", "--backend", "device"], "LunarLander-v3 has no twin on the device"),
    (["train", "ppo", "--env", "CartPole-v1", "--env-arg", "speed"], "not of the form key=value"),
    (["train", "ppo", "--env", "CartPole-v1", "--env-arg", "speed=3"], "CartPole-v1 cannot be made"),
    (["train", "ppo", "--env", "CartPole-v1", "--config", "none.toml"], "--config none.toml cannot be read"),
    (["train", "ppo", "--env", "CartPole-v1", "--box-distribution", "tanh"], "the actions are Discrete"),
    (["train", "ppo", "--env", "tests.missing:Thing-v0"], "tests.missing:Thing-v0"),
    (["eval", "no/such/run"], "no/such/run holds no run"),
    (["resume", "no/such/run"], "no/such/run holds no run"),
    (["list", "agent"], "unknown list 'agent'; did you mean 'agents'"),
]


@pytest.mark.parametrize(("argv", "message"), MISTAKES, ids=[" ".join(argv[-2:]) for argv, _ in MISTAKES])
def test_a_mistake_gets_one_message_and_exit_code_2(
    argv: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main.main(argv)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    out, err = capfd.readouterr()
    assert code == 2
    assert message in out + err
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_ends_a_real_process_at_once(tmp_path: Path) -> None:
    done = rlgd("train", "ppo", "--env", "CartPole-v1", "--gamma", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "rlgd: error: gamma is 2.0; allowed: a number within [0, 1].\n"
    assert done.stdout == ""


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m rlgd list optimizers | true; exit ${{PIPESTATUS[0]}}"
    for _ in range(3):  # the reader may be gone before or behind the first line
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = rlgd("train", "ppo", "--env", "CartPole-v1", "--gamma", "2", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_divergence_ends_with_4(tmp_path: Path) -> None:
    argv = ["train", "a2c", "--env", "CartPole-v1", *TINY, "--optimizer", "sgd", "--learning-rate", "1e30"]
    done = rlgd(*argv, "--max-grad-norm", "1e30", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "training diverged" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["agents", "envs", "optimizers"])
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["list", what]) == 0
    out = capsys.readouterr().out
    assert {"agents": "reinforce", "envs": "CartPole-v1", "optimizers": "nesterov"}[what] in out


@pytest.mark.parametrize(
    ("text", "number"),
    [("100000", 100_000), ("100_000", 100_000), ("1e5", 100_000), ("100k", 100_000), ("2M", 2_000_000)],
)
def test_numbers_as_people_write_them(text: str, number: int) -> None:
    assert hyperparameters.count(text) == number


@pytest.mark.parametrize("text", ["1.5", "x", "", "1e5.5", "0x10", "inf", "nan"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        hyperparameters.count(text)
