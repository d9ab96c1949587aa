"""The folder of an export: what a run becomes for people with other programs."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
import scipy
from huggingface_hub import ModelCard

import rlgd
from rlgd import spaces
from rlgd.agents import PPO
from rlgd.cli.main import main
from rlgd.errors import StorageFault, UsageError
from rlgd.exporting import export_run, load_stablehlo
from rlgd.exporting.card import interval_of_mean, model_card
from rlgd.exporting.description import describe
from rlgd.exporting.interface import Interface

FILES = {"README.md", "architecture.json", "policy.onnx", "policy.safetensors", "policy.stablehlo"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "run"
    agent = PPO(num_envs=4, rollout_length=32, num_minibatches=2, network="gru", memory_width=8, normalize_obs=True)
    rlgd.train(agent, "CartPole-v1", total_timesteps=512, run_dir=directory, seed=7, eval_episodes=5)
    return directory


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_run(run, tmp_path_factory.mktemp("export"), to=("onnx", "stablehlo", "safetensors"))


def block(card: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)\n```", card, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_folder_has_every_format_and_a_card(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES


def test_the_card_says_what_the_run_was(run: Path, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    summary = json.loads((run / "summary.json").read_text())
    config = json.loads((run / "config.json").read_text())
    assert "# PPO in CartPole-v1" in card
    assert f"over 5 episodes of the greedy policy is **{summary['evaluation']['mean_return']:.1f}**" in card
    rows = dict(re.findall(r"^\| (\S.*?) +\| (.*?) +\|$", card, re.MULTILINE))
    assert (rows["seed"], rows["environment steps of the run"], rows["jax"]) == ("7", "512", config["versions"]["jax"])
    settings = config["hyperparameters"] | config["settings"]
    assert {name: json.loads(rows[f"`{name}`"].strip("`")) for name in settings} == settings
    for language in ("Python", "JavaScript", "C++", "C#", "MATLAB"):
        assert f"\n{language}:\n" in card


def test_a_hub_reads_the_card(run: Path, folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    (result,) = card.data.eval_results
    mean = json.loads((run / "summary.json").read_text())["evaluation"]["mean_return"]
    assert (result.dataset_name, result.metric_type) == ("CartPole-v1", "mean_reward")
    assert result.metric_value.startswith(f"{mean:.2f} +/- ")
    assert card.data.library_name == "rlgd"


def test_the_interval_is_students() -> None:
    returns = np.random.default_rng(0).normal(100, 20, 30)
    expected = scipy.stats.t.interval(0.95, 29, returns.mean(), scipy.stats.sem(returns))
    assert interval_of_mean(returns.mean(), returns.std(), 30) == pytest.approx(expected)
    assert all(map(math.isnan, interval_of_mean(1.0, 0.0, 1)))


def test_the_program_in_python_runs(folder: Path) -> None:
    code = block((folder / "README.md").read_text(), "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    assert done.stdout.strip() in ("0", "1")


def test_every_format_acts_as_the_run_does(run: Path, folder: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "policy.onnx")
    program, saved = load_stablehlo(folder / "policy.stablehlo"), rlgd.Policy.load(folder / "policy.safetensors")
    policy, env = rlgd.load(run), gymnasium.make("CartPole-v1")
    obs, memory, first = env.reset(seed=0)[0], np.zeros((1, 8), np.float32), True
    for _ in range(20):
        inputs = {"obs": obs[None], "first": np.array([first]), "memory": memory}
        action, memory = session.run(["action", "next_memory"], inputs)
        actions = {int(action[0]), int(program(inputs)["action"][0]), int(saved(obs)), int(policy(obs))}
        assert len(actions) == 1
        obs, _, first, _, _ = env.step(actions.pop())


def test_nothing_is_replaced_unless_it_is_said(run: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export_run(run, tmp_path, to=("safetensors", "onnx"))
    assert [path.name for path in tmp_path.iterdir()] == ["policy.onnx"]
    assert (tmp_path / "policy.onnx").read_text() == "mine"
    export_run(run, tmp_path, overwrite=True)
    assert (tmp_path / "policy.onnx").read_bytes()[:2] == (folder / "policy.onnx").read_bytes()[:2]
    export_run(run, tmp_path, to=("safetensors",), overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"policy.safetensors", "architecture.json", "README.md"}
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(UsageError, match="is no card of an export, and is not replaced"):
        export_run(run, tmp_path, overwrite=True)
    assert (tmp_path / "README.md").read_text() == "my project"
    (tmp_path / "file").touch()
    with pytest.raises(StorageFault, match="cannot be written"):
        export_run(run, tmp_path / "file" / "inside")


@pytest.mark.slow
def test_the_card_has_the_evaluation_of_its_own_checkpoint_alone(tmp_path: Path) -> None:
    agent = PPO(num_envs=2, rollout_length=16, hidden_sizes=(4,), measure_every=0)
    options: dict[str, Any] = {"eval_every": 64, "patience": 50, "checkpoint_every": 64, "keep": 9}
    rlgd.train(agent, "CartPole-v1", total_timesteps=320, run_dir=tmp_path / "run", eval_episodes=3, **options)
    best = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]["step"]
    for checkpoint, step in ((None, best), ("best", best), (128, 128)):
        folder = export_run(tmp_path / "run", tmp_path / str(checkpoint), to=("safetensors",), checkpoint=checkpoint)
        card = (folder / "README.md").read_text()
        assert re.search(rf"environment steps of this policy +\| {step} ", card)
        assert ("This checkpoint was not evaluated." in card) == (step != best)


def test_odd_names_do_not_break_the_card(tmp_path: Path) -> None:
    names = ['say "hi"', "it's | a bar", "two\nlines", "smile 😀", "back\\slash"]
    space = gymnasium.spaces.Dict({name: gymnasium.spaces.Box(-1, 1, (2,)) for name in names})
    spec = spaces.spec(space, gymnasium.spaces.Discrete(2))
    agent = PPO(hidden_sizes=(4,))
    policy = rlgd.Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)
    rlgd.export(policy, tmp_path / "policy.onnx")
    run: dict[str, Any] = {"environment": 'odd "names" | 😀', "settings": {"seed": 0}, "device": "cpu", "step": 1}
    run |= {"trained_with": {}, "summary": {}, "is_result": True}
    card = model_card(describe(policy, Interface(policy)) | run, {"onnx": "policy.onnx"})
    (tmp_path / "README.md").write_text(card)
    assert 'odd "names" | 😀' in ModelCard.load(tmp_path / "README.md").data.tags
    ports = [line for line in card.splitlines() if line.startswith("| `obs.")]
    assert len(ports) == len(names)
    assert all(len(re.split(r"(?<!\\)\|", line)) == 6 for line in ports)
    subprocess.run([sys.executable, "-c", block(card, "python")], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["device", "host"])
def test_masks_follow_the_environment(tmp_path: Path, backend: str) -> None:
    agent = PPO(num_envs=2, rollout_length=16, hidden_sizes=(4,), measure_every=0)
    for env_id in ("Taxi-v4", "CartPole-v1"):
        run, out = tmp_path / "run" / env_id, tmp_path / "export" / env_id
        rlgd.train(agent, env_id, total_timesteps=32, run_dir=run, eval_episodes=1, backend=backend)
        program = load_stablehlo(export_run(run, out, to=("stablehlo",)) / "policy.stablehlo")
        masked = "action_mask" in {port["name"] for port in program.about["inputs"]}
        assert masked == (env_id == "Taxi-v4")


def test_masks_of_an_environment_that_is_not_here_must_be_said(tmp_path: Path) -> None:
    gymnasium.register("tests/Export-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=20)
    agent = PPO(num_envs=2, rollout_length=16, hidden_sizes=(4,), measure_every=0)
    rlgd.train(agent, "tests/Export-v0", total_timesteps=32, run_dir=tmp_path / "run", eval_episodes=1)
    gymnasium.registry.pop("tests/Export-v0")
    with pytest.raises(UsageError, match="whether the environment says which actions are allowed is unknown"):
        export_run(tmp_path / "run", tmp_path / "export")
    export_run(tmp_path / "run", tmp_path / "export", action_mask=False)


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "onnx", "safetensors", "--out", str(tmp_path / "a"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"folder": str(tmp_path / "a"), "files": sorted(FILES - {"policy.stablehlo"})}
    assert main(["export", str(run), "--out", str(tmp_path / "b")]) == 0
    assert f"{tmp_path / 'b' / 'policy.onnx'}  " in capsys.readouterr().out
    assert main(["export", str(run), "--out", str(tmp_path / "b")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(tmp_path / "b"), "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'b'}\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to", "onx"], "unknown format of a policy 'onx'.*onnx"),
        (["--action-mask", "maybe"], "unknown action_mask 'maybe'"),
        (["--checkpoint", "17"], "checkpoint is '17'"),
    ],
)
def test_bad_flags_get_one_message(
    run: Path, tmp_path: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--out", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def edited(folder: Path, path: Path, **changes: Any) -> Path:
    """The arrays as another program writes them, with some of them changed."""
    from safetensors.numpy import load_file, save_file

    arrays = load_file(folder / "policy.safetensors") | changes
    save_file({name: array for name, array in arrays.items() if array is not None}, path)
    return path


KERNEL = "policy.network.mlp.OutputLayer_0.kernel"


def test_arrays_of_another_program_come_back(run: Path, folder: Path, tmp_path: Path) -> None:
    policy, obs = rlgd.load(run), np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    described = json.loads((folder / "architecture.json").read_text())
    assert KERNEL in described["arrays"]
    path = edited(folder, tmp_path / "same.safetensors")
    back = rlgd.Policy.from_safetensors(path, architecture=folder / "architecture.json")
    np.testing.assert_array_equal(back(obs), policy(obs))
    kernel = -np.asarray(back.actor.policy["network"]["mlp"]["OutputLayer_0"]["kernel"])
    path = edited(folder, tmp_path / "tuned.safetensors", **{KERNEL: kernel})
    (tmp_path / "architecture.json").write_text(json.dumps(described))
    other = rlgd.Policy.from_safetensors(path)
    assert (np.asarray(other.actor.policy["network"]["mlp"]["OutputLayer_0"]["kernel"]) == kernel).all()
    np.testing.assert_array_equal(rlgd.Policy.from_safetensors(folder / "policy.safetensors")(obs), back.copy()(obs))


def test_arrays_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    path = edited(folder, tmp_path / "alone.safetensors")
    with pytest.raises(UsageError, match=r"arrays alone, and .*architecture\.json cannot be read"):
        rlgd.Policy.from_safetensors(path)
    with pytest.raises(UsageError, match=r"no policy that rlgd saved; Policy\.from_safetensors reads"):
        rlgd.Policy.load(path)
    described = folder / "architecture.json"
    for name, change in {
        "shape": np.zeros((3, 3), np.float32),
        "dtype": np.zeros((8, 2), np.float64),
        "missing": None,
    }.items():
        path = edited(folder, tmp_path / f"{name}.safetensors", **{KERNEL: change})
        with pytest.raises(StorageFault, match="does not fit its agent"):
            rlgd.Policy.from_safetensors(path, architecture=described)
    path = edited(folder, tmp_path / "more.safetensors", more=np.zeros(3, np.float32))
    with pytest.raises(StorageFault, match=r"more is .* does not fit its agent; expected None"):
        rlgd.Policy.from_safetensors(path, architecture=described)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(StorageFault, match="is damaged"):
        rlgd.Policy.from_safetensors(path, architecture=tmp_path / "broken.json")


def test_overlapping_arrays_are_refused(folder: Path, tmp_path: Path) -> None:
    content = (folder / "policy.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]
    names = sorted(header, key=lambda name: header[name]["data_offsets"])
    begin, end = header[names[1]]["data_offsets"]
    header[names[1]]["data_offsets"] = [begin - 2, end - 2]
    text = json.dumps(header).encode()
    (tmp_path / "odd.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(StorageFault, match="is not where the array before it ends"):
        rlgd.Policy.from_safetensors(tmp_path / "odd.safetensors", architecture=folder / "architecture.json")


def test_infinite_bounds_are_text_that_every_program_reads(tmp_path: Path) -> None:
    action = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    spec = spaces.spec(gymnasium.spaces.Box(-1, 1, (3,)), action)
    agent = PPO(hidden_sizes=(4,))
    policy = rlgd.Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)
    program = load_stablehlo(rlgd.export(policy, tmp_path / "policy.stablehlo"))
    assert program.about["spaces"]["action"]["low"] == ["-Infinity", "-Infinity"]
    assert spaces.from_json(program.about["spaces"]) == spec
