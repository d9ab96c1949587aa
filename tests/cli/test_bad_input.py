"""A user's mistake ends before anything is compiled or written: exit code 2, one message, no traceback."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from rlgd.cli import main

PPO = "train ppo --env CartPole-v1"
PENDULUM = "train ppo --no-preset --env Pendulum-v1"

# command line, what the message must contain; files of ``FILES`` lie in the working directory
COMMANDS = [
    # commands
    ("trian ppo", "unknown command 'trian'; did you mean 'train'?"),
    ("TRAIN", "unknown command 'TRAIN'; did you mean 'train'?"),
    ("", "usage: rlgd COMMAND"),
    # agents
    ("train", "usage: rlgd train AGENT"),
    ("train pppo --env CartPole-v1", "unknown agent 'pppo'; did you mean 'ppo'?"),
    ("train P.P.O --env CartPole-v1", "unknown agent 'P.P.O'; did you mean 'ppo'?"),
    ("train dqn --env CartPole-v1", "unknown agent 'dqn'"),
    ("train --env CartPole-v1", "AGENT comes first: rlgd train AGENT --env ID [flags]."),
    # environments
    ("train ppo", "--env is missing"),
    ("train ppo --env CartPol-v1", "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
    ("train ppo --env cartpole-v1", "did you mean 'CartPole-v1'"),
    ("train ppo --env CartPoleNoVelocity-v1", "did you mean 'rlgd/CartPoleNoVelocity-v1'"),
    ("train ppo --env tests.missing:Thing-v0", "tests.missing:Thing-v0"),
    ("train ppo --env CartPole-v99", "CartPole-v"),
    ("train ppo --env Cart/Pole/v1", "Cart/Pole/v1"),
    ("train ppo --env nomodule_x:CartPole-v1", "nomodule_x"),
    ("train ppo --env brax:nothing", "nothing"),
    ("train ppo --env brx:ant", "brx"),
    (f"{PPO} --backend gpu", "unknown backend 'gpu'"),
    (f"{PPO} --backend devise", "unknown backend 'devise'; did you mean 'device'?"),
    ("train ppo --env LunarLander-v3 --backend device", "LunarLander-v3 has no twin on the device"),
    ("train ppo --env Acrobot-v1 --vectorization native", "native"),
    (f"{PPO} --backend host --vectorization thread", "vectorization"),
    (f"{PPO} --backend host --env-timeout -1", "env_timeout is -1.0; allowed: a number within (0, inf)"),
    (f"{PPO} --env-arg gravity", "--env-arg 'gravity' is not of the form key=value."),
    (f"{PPO} --backend host --env-arg gravity=1", "gravity"),
    (f"{PPO} --env-arg speed=3", "CartPole-v1 cannot be made"),
    (f"{PPO} --max-episode-steps 0", "max_episode_steps"),
    (f"{PPO} --max-episode-steps ten", "max-episode-steps"),
    (f"{PPO} --act-device cpu", "act_device"),
    (f"{PPO} --overlap", "overlap is set, but CartPole-v1 runs on the device"),
    (f"{PPO} --act-device tpu", "unknown act_device 'tpu'"),
    (f"{PENDULUM} --box-distribution gama", "unknown box_distribution 'gama'"),
    (f"{PENDULUM} --box-std gsd", "did you mean 'gsde'?"),
    (
        f"{PENDULUM} --box-std gsde --hidden-sizes",
        "there is no hidden layer to explore with",
    ),
    (
        f"{PENDULUM} --box-distribution beta --box-std gsde",
        "a Beta distribution has no such parameter",
    ),
    (f"{PENDULUM} --box-distribution beta --log-std-init -1", "log_std_init is set"),
    (f"{PENDULUM} --sde-sample-freq 4", "sde_sample_freq is set, but box_std is 'free'"),
    (f"{PPO} --box-std state", "box_std is 'state', but the actions are Discrete"),
    (f"{PPO} --log-std-init -1", "log_std_init is set, but the actions are Discrete"),
    (f"{PPO} --box-distribution tanh", "the actions are Discrete"),
    (f"{PPO} --network lstn", "unknown network 'lstn'; did you mean 'lstm'?"),
    (f"{PPO} --network lstm --num-minibatches 16", "num_envs = 8, the sequences"),
    (f"{PPO} --network gru --num-minibatches 3", "nearest that do: 1, 2, 4."),
    (f"{PPO} --memory-width 32", "memory_width is set, but neither network nor value_network"),
    ("train a2c --env CartPole-v1 --network rnn --memory-width 0", "memory_width is 0"),
    (
        "train reinforce --env CartPole-v1 --network lstm",
        "network 'lstm' has a memory; REINFORCE learns without",
    ),
    (f"{PENDULUM} --scale-reward maybe", "Unrecognized options: maybe"),
    ("train ppo --env LunarLander-v3 --network gru", "nearest that do: 4, 8, 16. (preset: ppo for LunarLander-v3"),
    # lengths
    (f"{PPO} --total-timesteps 0", "total_timesteps is 0; allowed: a whole number within [1, inf)."),
    (f"{PPO} --total-timesteps -5", "total_timesteps is -5"),
    (f"{PPO} --total-timesteps 1.5", "'1.5' is not a whole number"),
    (f"{PPO} --total-timesteps 1e5.5", "total-timesteps"),
    (f"{PPO} --total-timesteps many", "total-timesteps"),
    (f"{PPO} --total-timesteps nan", "total-timesteps"),
    (f"{PPO} --total-timesteps inf", "total-timesteps"),
    (f"{PPO} --total-timesteps 1e30", "total_timesteps"),
    (f"{PPO} --total-timesteps 0x10", "total-timesteps"),
    (f"{PPO} --total-timesteps", "total-timesteps"),
    (f"{PPO} --seed -1", "seed is -1"),
    (f"{PPO} --seed one", "seed"),
    (f"{PPO} --seed 1.0", "seed"),
    (f"{PPO} --eval-every 0", "eval_every is 0"),
    (f"{PPO} --eval-episodes 0", "eval_episodes is 0"),
    (f"{PPO} --checkpoint-every 0", "checkpoint_every is '0'; allowed: seconds, such as 60s, or steps"),
    (f"{PPO} --checkpoint-every 0s", "checkpoint_every is '0s'"),
    (f"{PPO} --checkpoint-every -3s", "checkpoint_every is '-3s'"),
    (f"{PPO} --checkpoint-every nans", "checkpoint_every is 'nans'"),
    (f"{PPO} --checkpoint-every infs", "checkpoint_every is 'infs'"),
    (f"{PPO} --checkpoint-every 5m", "checkpoint_every is"),
    (f"{PPO} --checkpoint-every s", "checkpoint_every is 's'"),
    (f"{PPO} --checkpoint-every 1.5", "checkpoint_every is '1.5'"),
    (f"{PPO} --keep 0", "keep is 0; allowed: a whole number within [1, inf)."),
    # memory
    (f"{PPO} --num-envs 2000000000", "2000000000 * 128 = 256000000000; allowed: below 2,147,483,648 rows."),
    (f"{PPO} --rollout-length 9000000000 --num-minibatches 7", "rows."),
    (f"{PPO} --memory-width 10000000 --network lstm", "smaller hidden_sizes or memory_width take less."),
    (f"{PPO} --hidden-sizes 1000000 1000000", "smaller hidden_sizes or memory_width take less."),
    ("train reinforce --env CartPole-v1 --max-episode-steps 900000000", "a smaller max_episode_steps"),
    # hyper-parameters
    (f"{PPO} --gama 0.9", "--gamma"),
    (f"{PPO} --gamma 2", "gamma is 2.0; allowed: a number within [0, 1]."),
    (f"{PPO} --gamma -0.1", "gamma is -0.1"),
    (f"{PPO} --gamma nan", "gamma is nan"),
    (f"{PPO} --gamma high", "gamma"),
    (f"{PPO} --gamma", "gamma"),
    (f"{PPO} --gae-lambda 1.01", "gae_lambda is 1.01"),
    (f"{PPO} --learning-rate -1e-3", "learning_rate is -0.001"),
    (f"{PPO} --learning-rate nan", "learning_rate is nan"),
    (f"{PPO} --learning-rate inf", "learning_rate is inf"),
    (f"{PPO} --learning-rate 1e-3e", "learning-rate"),
    (f"{PPO} --momentum 1", "momentum is 1.0"),
    (f"{PPO} --momentum -0.5", "momentum is -0.5"),
    (f"{PPO} --optimizer adamm", "unknown optimizer 'adamm'; did you mean 'adam"),
    (f"{PPO} --optimizer Adam", "adam"),
    (f"{PPO} --optimizer sgd --momentum 0.9", "sgd does not use it"),
    (f"{PPO} --optimizer lion --epsilon 1", "lion does not use it"),
    (f"{PPO} --schedule lineer", "linear"),
    (f"{PPO} --schedule linear:x", "allowed: constant, linear"),
    (f"{PPO} --ent-coef-schedule linear", "has no effect: ent_coef is 0"),
    (f"{PPO} --schedule warmup:2", "warmup"),
    (f"{PPO} --schedule __import__('os').system('true')", "schedule"),
    (f"{PPO} --max-grad-norm 0", "max_grad_norm is 0.0"),
    (f"{PPO} --max-grad-norm -1", "max_grad_norm is -1.0"),
    (f"{PPO} --clip-eps 0", "clip_eps is 0.0"),
    (f"{PPO} --clip-eps -1", "clip_eps is -1.0"),
    (f"{PPO} --target-kl 0", "target_kl is 0.0"),
    (f"{PPO} --num-envs 0", "num_envs is 0"),
    (f"{PPO} --num-envs -1", "num_envs is -1"),
    (f"{PPO} --num-envs 1.5", "num-envs"),
    (f"{PPO} --num-envs 8x", "num-envs"),
    (f"{PPO} --rollout-length 0", "rollout_length is 0"),
    (f"{PPO} --num-minibatches 3", "num_minibatches"),
    (f"{PPO} --num-minibatches 7", "nearest that do: 2, 4, 8"),
    (f"{PPO} --num-minibatches 0", "num_minibatches is 0"),
    (f"{PPO} --num-epochs 0", "num_epochs is 0"),
    (f"{PPO} --hidden-sizes 0", "hidden_sizes is 0"),
    (f"{PPO} --hidden-sizes -8", "hidden_sizes is -8"),
    (f"{PPO} --hidden-sizes big", "hidden-sizes"),
    (f"{PPO} --activation rellu", "relu"),
    (f"{PPO} --activation __import__('os').system('true')", "activation"),
    (f"{PPO} --weight-decay -1", "weight_decay is -1.0"),
    (f"{PPO} --measure-every -1", "measure_every is -1"),
    # criteria
    (f"{PPO} --patience 0", "patience is 0; allowed: a whole number within"),
    (f"{PPO} --max-seconds 0", "max_seconds is 0.0"),
    (f"{PPO} --max-seconds soon", "max-seconds"),
    (f"{PPO} --target-return nan", "target_return is nan"),
    # flags
    (f"{PPO} --no-such-flag", "no-such-flag"),
    (f"{PPO} surplus", "surplus"),
    (f"{PPO} --device tpu", "unknown device 'tpu'"),
    (f"{PPO} --run-dir file/run", "cannot be written: Not a directory"),
    (f"{PPO} --run-dir {'x' * 300}", "cannot be written: File name too long"),
    (f"{PPO} --run-dir loop/run", "cannot be written: Too many levels of symbolic links"),
    # configurations
    (f"{PPO} --config nowhere.toml", "--config nowhere.toml cannot be read: No such file or directory."),
    (f"{PPO} --config .", "--config . cannot be read: it is not a regular file."),
    (f"{PPO} --config typo.toml", "unknown flag 'gama'; did you mean 'gamma'?"),
    (f"{PPO} --config torn.toml", "--config torn.toml is not a table in TOML:"),
    (f"{PPO} --config torn.json", "--config torn.json is not a table in JSON:"),
    (f"{PPO} --config list.json", "--config list.json is not a table in JSON: it is a list; expected a table"),
    (f"{PPO} --config deep.json", "--config deep.json is not a table in JSON:"),
    (f"{PPO} --config binary.toml", "--config binary.toml is not a table in TOML:"),
    (f"{PPO} --config other.toml", "--config other.toml is for the agent 'a2c', not for 'ppo'."),
    ("train ppo --config evil.toml", "the environment 'evil:CartPole-v1' imports the module 'evil'; name it yourself"),
    (f"{PPO} --config range.toml", "gamma is 7"),
    (f"{PPO} --config kind.toml", "num_envs is 'four'"),
    (f"{PPO} --config python.toml", "unknown"),
    # runs
    ("resume", "usage: rlgd resume RUN"),
    ("resume nowhere", "nowhere holds no run"),
    ("resume --seed 1", "RUN comes first: rlgd resume RUN [flags]."),
    ("eval --episodes 3 nowhere", "RUN|FILE comes first: rlgd eval RUN|FILE [flags]."),
    ("resume empty", "empty holds no run"),
    ("eval nowhere", "nowhere holds no run"),
    ("eval file", "file is no policy that rlgd saved"),
    ("play nowhere", "nowhere holds no run"),
    ("verify-resume nowhere.toml", "cannot be read: No such file or directory."),
    ("verify-resume range.toml", "range.toml names no agent"),
    ("verify-resume --seed 3", "RUN|CONFIG comes first"),
    # studies and searches
    ("study momentun", "momentum"),
    ("study nowhere.toml", "nowhere.toml"),
    ("study momentum --seeds 0", "seeds"),
    ("study momentum --env CartPol-v1", "CartPole"),
    ("study evil.toml", "the study has no arm"),
    ("study evil-study.toml", "the environment 'evil:CartPole-v1' imports the module 'evil'; name it yourself"),
    ("study resume nowhere", "nowhere holds no study"),
    ("study resume", "usage: rlgd study resume DIR"),
    ("study resume nowhere --seeds 3", "Unrecognized options: --seeds"),
    ("study", "usage: rlgd study NAME|FILE"),
    ("tune ppo --env CartPole-v1", "--search is missing"),
    ("tune ppo --search gamma=0.9", "--env is missing"),
    ("tune ppo --env CartPole-v1 --search gama=0.9,0.99", "gamma"),
    ("tune ppo --env CartPole-v1 --search gamma=log:0,1", "gamma"),
    ("tune ppo --env CartPole-v1 --search gamma", "--search 'gamma' is not of the form key=value."),
    ("list nothing", "nothing"),
    ("list agent", "unknown list 'agent'; did you mean 'agents'"),
    ("list", "usage: rlgd list THING"),
    ("list agents --json", "Unrecognized options: --json"),
    ("check-env", "usage: rlgd check-env ID"),
    ("check-env NoSuchEnv-v0", "NoSuchEnv"),
]
FILES = {
    "file": b"",
    "typo.toml": b"gama = 0.9\n",
    "torn.toml": b"gamma = \n",
    "torn.json": b'{"gamma": ',
    "list.json": b"[1, 2]",
    "deep.json": b"[" * 100_000 + b"]" * 100_000,
    "binary.toml": bytes(range(256)),
    "other.toml": b'agent = "a2c"\n',
    "evil.toml": b'env = "evil:CartPole-v1"\n',
    "evil-study.toml": b'env = "evil:CartPole-v1"\n[[arms]]\nname = "gamma"\nvary.gamma = [0.9, 0.99]\n',
    "range.toml": b"gamma = 7\n",
    "kind.toml": b'num-envs = "four"\n',
    "python.toml": b"\"!!python/object/apply:os.system\" = ['true']\n",
}
EVIL = "from pathlib import Path\nPath('PWNED').write_text('')\n"


@pytest.fixture(name="place")
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that are no good."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(place: Path) -> list[str]:
    return sorted(str(path) for path in place.rglob("*"))


def test_there_are_at_least_a_hundred() -> None:
    assert len({command for command, _ in COMMANDS}) == len(COMMANDS) >= 100


@pytest.mark.parametrize(("command", "message"), COMMANDS, ids=[command[:60] for command, _ in COMMANDS])
def test_a_mistake_is_named(command: str, message: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(place)
    compiled: list[str] = []

    def notice(event: str, duration_secs: float, **more: str | int) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(notice)
    try:
        code = main.main(command.split())
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        jax.monitoring.clear_event_listeners()
    output = capsys.readouterr()
    said = re.sub(r"[│╭╮╰╯─\s]+", " ", output.err + output.out)
    assert code == 2, said
    assert message in said
    assert "Traceback" not in said
    assert listing(place) == before
    assert not compiled


@pytest.mark.parametrize(
    "command", [f"{PPO} --gama 0.9", f"{PPO} --gamma 2", "train ppo --env CartPol-v1", "eval nowhere"]
)
def test_a_mistake_ends_the_process_soon(command: str, place: Path) -> None:
    before = listing(place)
    start = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "rlgd", *command.split()], capture_output=True, text=True, timeout=60, check=False
    )
    seconds = time.monotonic() - start
    assert process.returncode == 2
    assert "Traceback" not in process.stderr + process.stdout
    assert listing(place) == before
    assert seconds < 15  # 5 are promised, on a machine that has nothing else to do


def test_debug_shows_the_traceback(place: Path) -> None:
    argv = [sys.executable, "-m", "rlgd", *PPO.split(), "--gamma", "2", "--debug"]
    process = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" in process.stderr
    assert "gamma is 2.0" in process.stderr


def test_json_has_its_error_on_standard_error(place: Path) -> None:
    argv = [sys.executable, "-m", "rlgd", *PPO.split(), "--gamma", "2", "--json"]
    process = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert process.stdout == ""
    assert "gamma is 2.0" in process.stderr
    assert json.dumps(process.returncode) == "2"


def test_the_message_is_all_that_is_printed(place: Path) -> None:
    argv = [sys.executable, "-m", "rlgd", *PPO.split(), "--gamma", "2"]
    process = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert process.stderr == "rlgd: error: gamma is 2.0; allowed: a number within [0, 1].\n"
    assert process.stdout == ""
