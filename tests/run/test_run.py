"""Runs: what they write, that they resume exactly, and that faults lose nothing."""

import dataclasses
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import rlgd
import rlgd.envs
from rlgd import hyperparameters
from rlgd.agents import A2C, PPO, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.ascent import Ascent
from rlgd.envs import DeviceEnv
from rlgd.errors import Diverged, Interrupted, StorageFault, UsageError
from rlgd.evaluation import EvalResult, evaluator
from rlgd.run import RunConfig, RunSettings, Stopping, TrainResult, execute, layout
from rlgd.run.checkpoints import folder
from rlgd.run.checkpoints import state as state_module
from rlgd.run.config_content import FORMAT_VERSION
from rlgd.run.disk_recording import DiskRecording
from rlgd.run.sinks.rows import Row
from rlgd.run.sinks.tensorboard import ANSWERS
from rlgd.training.runners import chunk_program

TOTAL = 1024
SMALL: dict[str, Any] = {"num_envs": 4, "hidden_sizes": (8,), "measure_every": 0}
MEASURED = SMALL | {"measure_every": 3}
A2C_SMALL = A2C(**SMALL, rollout_length=16)
AGENTS: dict[str, Agent] = {
    "a2c": A2C_SMALL,
    "ppo": PPO(**MEASURED, rollout_length=16, num_epochs=2, num_minibatches=2, normalize_obs=True, scale_reward=True),
    "reinforce": REINFORCE(**MEASURED),
}


def train(agent: Agent, run_dir: Path | None, **options: Any) -> TrainResult:
    defaults: dict[str, Any] = {"total_timesteps": TOTAL, "eval_episodes": 3}
    return rlgd.train(agent, "CartPole-v1", run_dir=run_dir, **(defaults | options))


def arrays(result: TrainResult) -> list[np.ndarray]:
    state = dataclasses.replace(result.state, key=jax.random.key_data(result.state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope="module", name="written")
def _written(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    agent = dataclasses.replace(A2C_SMALL, ascent=Ascent("nesterov", learning_rate=1e-2, momentum=0.5), measure_every=1)
    return train(agent, tmp_path_factory.mktemp("runs") / "a run", eval_every=500, seed=3)


@pytest.fixture(scope="module", name="events")
def _events(written: TrainResult) -> EventAccumulator:
    return EventAccumulator(str(written.run_dir)).Reload()


def test_without_a_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = train(A2C_SMALL, None)
    assert result.run_dir is None
    assert result.evaluation is None
    assert list(tmp_path.iterdir()) == []
    assert result.metrics["step"][-1] == result.steps == TOTAL
    assert all(len(values) == len(result.metrics["step"]) for values in result.metrics.values())
    assert result.policy(np.zeros(4)) in (0, 1)


def test_a_run_directory_holds_everything(written: TrainResult) -> None:
    assert written.run_dir is not None
    names = {path.name.split(".")[0] for path in written.run_dir.iterdir()}
    assert names == {"config", "metrics", "summary", "events", "checkpoints", "best", "run"}
    config = json.loads((written.run_dir / "config.json").read_text())
    assert config["agent"] == "a2c"
    assert config["env"]["id"] == "CartPole-v1"
    assert config["hyperparameters"]["momentum"] == 0.5
    assert config["versions"]["jax"] == jax.__version__
    summary = json.loads((written.run_dir / "summary.json").read_text())
    assert summary["steps"] == TOTAL
    assert summary["reason"] == "total_timesteps"
    assert summary["evaluation"]["env"] == "CartPole-v1"
    assert summary["evaluation"]["episodes"] == 3
    lines = [json.loads(line) for line in (written.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert all(math.isfinite(value) for line in lines for value in line.values())


TAGS = {
    "rollout/episode_return",
    "rollout/episode_length",
    "rollout/episodes",
    "train/objective",
    "train/value_error",
    "train/entropy",
    "train/explained_variance",
    "ascent/learning_rate",
    "ascent/momentum",
    "ascent/gradient_norm",
    "ascent/value_gradient_norm",
    "ascent/clipped",
    "ascent/effective_step",
    "ascent/update_norm",
    "ascent/update_ratio",
    "ascent/gradient_alignment",
    "ascent/momentum_alignment",
    "ascent/noise_to_signal",
    "eval/episode_return",
    "eval/episode_length",
    "time/training_seconds",
    "time/compile_seconds",
    "time/steps_per_second",
}


def test_tensorboard_has_every_tag_against_steps_and_training_time(
    events: EventAccumulator, written: TrainResult
) -> None:
    shown = {ANSWERS.get(tag, tag) for tag in TAGS - {"ascent/learning_rate", "ascent/momentum", "ascent/clipped"}}
    assert shown <= set(events.Tags()["scalars"])  # what never changes is among the settings, and no curve
    seconds = events.Scalars(ANSWERS["time/training_seconds"])
    assert (seconds[0].step, seconds[0].value) == (0, 0)
    assert seconds[-1].step == TOTAL
    for point in seconds:
        assert point.wall_time - seconds[0].wall_time == pytest.approx(point.value, abs=1e-3)
    assert seconds[-1].value == pytest.approx(written.training_seconds, rel=1e-3)
    for tag in shown:
        steps = [point.step for point in events.Scalars(tag)]
        assert steps == sorted(set(steps))
    evaluated = [point.step for point in events.Scalars(ANSWERS["eval/episode_return"])]
    assert evaluated == [512, TOTAL]


def test_hparams_name_the_group_and_leave_the_seed_out(events: EventAccumulator) -> None:
    content = events.PluginTagToContent("hparams")
    session = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    assert (
        session.group_name == "a2c CartPole-v1 1024 num_envs=4 optimizer=nesterov learning_rate=0.01 momentum=0.5 "
        "max_grad_norm=None schedule=constant hidden_sizes=[8] rollout_length=16"
    )
    assert session.hparams["Momentum"].number_value == 0.5
    assert session.hparams["Optimizer"].string_value == "nesterov"
    assert "seed" not in session.hparams
    assert "_hparams_/experiment" not in content


class Interrupt:
    """Ctrl-C at the first evaluation."""

    def write(self, row: Row) -> None:
        if "eval/episode_return" in row.values:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", AGENTS)
def test_resume_is_exact(name: str, tmp_path: Path) -> None:
    """To the end at once, or interrupted and resumed: the same bits."""
    whole = train(AGENTS[name], None)
    with pytest.raises(KeyboardInterrupt):
        train(AGENTS[name], tmp_path / "run", eval_every=TOTAL // 2, sinks=[Interrupt()])
    assert (folder.latest_step(tmp_path / "run" / "checkpoints") or TOTAL) < TOTAL
    resumed = rlgd.resume(tmp_path / "run")
    assert resumed.steps == whole.steps
    for one, other in zip(arrays(whole), arrays(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    again = rlgd.load(tmp_path / "run")
    obs = np.random.default_rng(0).normal(size=(50, 4))
    np.testing.assert_array_equal(again(obs), resumed.policy(obs))


def test_a_resumed_run_compiles_nothing_twice(tmp_path: Path) -> None:
    env = rlgd.envs.make("CartPole-v1")
    assert isinstance(env, DeviceEnv)
    train(dataclasses.replace(A2C_SMALL, hidden_sizes=(7,)), tmp_path)
    before = chunk_program.program(env)._cache_size()
    rlgd.resume(tmp_path, total_timesteps=3 * TOTAL, eval_every=640)
    assert chunk_program.program(env)._cache_size() == before


def test_resume_of_a_complete_run_touches_nothing(written: TrainResult) -> None:
    assert written.run_dir is not None
    files = [path for path in written.run_dir.rglob("*") if path.is_file()]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    assert rlgd.resume(written.run_dir).reason == "already complete"
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_resume_takes_traced_changes_and_refuses_static_ones(tmp_path: Path) -> None:
    train(A2C_SMALL, tmp_path)
    with pytest.raises(UsageError, match=r"hidden_sizes: checkpoint \(8,\), requested \(16,\)\."):
        rlgd.resume(tmp_path, total_timesteps=2 * TOTAL, hidden_sizes=(16,))
    with pytest.raises(UsageError, match="did you mean 'learning_rate'"):
        rlgd.resume(tmp_path, total_timesteps=2 * TOTAL, learning_rat=0.1)
    result = rlgd.resume(tmp_path, total_timesteps=2 * TOTAL, learning_rate=0.5)
    assert result.metrics["ascent/learning_rate"][0] == pytest.approx(0.25)  # linear: half of the run is done
    assert json.loads((tmp_path / "config.json").read_text())["hyperparameters"]["learning_rate"] == 0.5


SCHEDULED = PPO(
    **SMALL,
    rollout_length=16,
    num_epochs=1,
    num_minibatches=1,
    ascent=Ascent("nesterov", 0.01, momentum=0.8, schedule="warmup:0.25+cosine", momentum_schedule="linear:0.5"),
    ent_coef=0.1,
    ent_coef_schedule="piecewise:0.5=1,0.5=0.1",
    clip_eps_schedule="exponential:0.1",
)
# What the schedules decide.
VALUES = ("ascent/learning_rate", "ascent/momentum", "train/ent_coef", "train/clip_eps")


def scheduled(shares: np.ndarray) -> list[np.ndarray]:
    """The ``VALUES`` of ``SCHEDULED`` at shares of the run."""
    cosine = 0.5 * (1 + np.cos(np.pi * (shares - 0.25) / 0.75))
    rate = 0.01 * np.where(shares < 0.25, shares / 0.25, cosine)
    return [rate, 0.8 * (1 - 0.5 * shares), 0.1 * np.where(shares < 0.5, 1, 0.1), 0.2 * 0.1**shares]


@pytest.mark.slow
def test_schedules_go_on_where_a_run_was_and_stretch_to_a_new_end(tmp_path: Path) -> None:
    rows = 64  # steps in an iteration: its values are those of its beginning
    with pytest.raises(KeyboardInterrupt):
        train(SCHEDULED, tmp_path, eval_every=TOTAL // 4, sinks=[Interrupt()])
    resumed = rlgd.resume(tmp_path)
    shares = (resumed.metrics["step"] - rows) / TOTAL
    assert shares[0] == 0.25
    for name, values in zip(VALUES, scheduled(shares), strict=True):
        np.testing.assert_allclose(resumed.metrics[name], values, rtol=1e-5, atol=1e-9)
    extended = rlgd.resume(tmp_path, total_timesteps=2 * TOTAL)
    shares = (extended.metrics["step"] - rows) / (2 * TOTAL)
    assert shares[0] == 0.5
    for name, values in zip(VALUES, scheduled(shares), strict=True):
        np.testing.assert_allclose(extended.metrics[name], values, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_an_extended_run_equals_a_long_one_but_for_its_schedule(tmp_path: Path) -> None:
    agent = dataclasses.replace(A2C_SMALL, ascent=Ascent("adam", learning_rate=1e-2))
    whole = train(agent, None, total_timesteps=2 * TOTAL)
    train(agent, tmp_path)
    extended = rlgd.resume(tmp_path, total_timesteps=2 * TOTAL)
    assert extended.steps == whole.steps
    for one, other in zip(
        jax.tree.leaves(whole.state.agent_state), jax.tree.leaves(extended.state.agent_state), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_host_runs_resume_with_fresh_episodes(tmp_path: Path) -> None:
    half = train(A2C_SMALL, tmp_path, backend="host", total_timesteps=256)
    resumed = rlgd.resume(tmp_path, total_timesteps=512)
    assert half.steps >= 256
    assert resumed.steps >= 512
    assert resumed.metrics["step"][0] > half.steps


def test_an_existing_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    train(A2C_SMALL, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine too")
    with pytest.raises(UsageError, match=r"already has a run; resume it with `rlgd resume .*--overwrite"):
        train(A2C_SMALL, tmp_path)
    train(A2C_SMALL, tmp_path, overwrite=True, total_timesteps=64)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "checkpoints" / "notes.txt").read_text() == "mine too"
    assert folder.latest_step(tmp_path / "checkpoints") == 64
    assert len(list(tmp_path.glob("events.*"))) == 1


def test_divergence_keeps_the_last_finite_state(tmp_path: Path) -> None:
    agent = dataclasses.replace(A2C_SMALL, ascent=Ascent("sgd", learning_rate=1e30))
    with pytest.raises(Diverged, match=r"is not finite in iteration \d+") as caught:
        train(agent, tmp_path)
    assert caught.value.exit_code == 4
    assert "Diverged" in json.loads((tmp_path / "summary.json").read_text())["reason"]
    assert rlgd.load(tmp_path)(np.zeros(4)) in (0, 1)


def test_load_needs_no_environment(tmp_path: Path) -> None:
    train(A2C_SMALL, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("CartPole-v1", "NotInstalled-v9"))
    assert rlgd.load(tmp_path)(np.zeros(4)) in (0, 1)
    with pytest.raises(UsageError, match="NotInstalled-v9"):
        rlgd.resume(tmp_path, total_timesteps=2 * TOTAL)


def test_a_damaged_directory_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        rlgd.load(tmp_path / "nothing")
    train(A2C_SMALL, tmp_path, total_timesteps=64)
    config = tmp_path / "config.json"
    text = config.read_text()
    config.write_text(text.replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 99'))
    with pytest.raises(UsageError, match="format_version 99"):
        rlgd.load(tmp_path)
    config.write_text(text[: text.index('"CartPole-v1"') + 5])
    with pytest.raises(StorageFault, match="is damaged: Unterminated string"):
        rlgd.load(tmp_path)
    config.write_text(text.replace('"hidden_sizes": [\n      8\n    ]', '"hidden_sizes": [\n      9\n    ]'))
    with pytest.raises(UsageError, match=r"other settings: hidden_sizes: checkpoint \[8\], requested \[9\]\."):
        rlgd.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_timesteps": 0}, "total_timesteps is 0; allowed: a whole number within"),
        ({"total_timesteps": 1e5}, "total_timesteps is 100000.0"),
        ({"seed": -1}, "seed is -1"),
        ({"eval_every": 0}, "eval_every is 0"),
        ({"eval_episodes": 0}, "eval_episodes is 0"),
        ({"backend": "gpu"}, "unknown backend 'gpu'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train(A2C_SMALL, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        train(A2C_SMALL, tmp_path / "file" / "run")


def test_automatic_names_do_not_collide(tmp_path: Path) -> None:
    first = layout.automatic(tmp_path, "ALE/Pong:v5", "ppo", 0)
    assert first.parent == tmp_path / "ALE-Pong-v5" / "ppo"
    assert first.is_dir()
    assert layout.automatic(tmp_path, "ALE/Pong:v5", "ppo", 0) != first


def test_evaluating_more_often_changes_no_bit(tmp_path: Path) -> None:
    plain, evaluated = train(A2C_SMALL, None), train(A2C_SMALL, tmp_path, eval_every=100)
    for one, other in zip(arrays(plain), arrays(evaluated), strict=True):
        np.testing.assert_array_equal(one, other)


def test_changes_of_a_resumed_run_are_told_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rlgd")
    train(A2C_SMALL, tmp_path)
    rlgd.resume(tmp_path, total_timesteps=2 * TOTAL, learning_rate=0.5, keep=7)
    assert "schedules stretch to the new end: 50% of the run is done" in caplog.messages
    assert "changed at step 1,024: learning_rate: 0.001 -> 0.5" in caplog.messages
    (entry,) = json.loads((tmp_path / "config.json").read_text())["history"]
    assert entry["step"] == TOTAL
    assert entry["changes"] == {
        "total_timesteps": {"before": TOTAL, "now": 2 * TOTAL},
        "learning_rate": {"before": 0.001, "now": 0.5},
        "keep": {"before": 3, "now": 7},
    }


OTHER: dict[str, tuple[str, Any]] = {
    "agent": ("agent", "ppo"),
    "hidden_sizes": ("hyperparameters", [16]),
    "activation": ("hyperparameters", "relu"),
    "num_envs": ("hyperparameters", 8),
    "optimizer": ("hyperparameters", "momentum"),
    "normalize_obs": ("hyperparameters", True),
    "seed": ("settings", 5),
}


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_of_other_settings_is_refused_by_their_names(
    tmp_path: Path, written: TrainResult, name: str
) -> None:
    """As if it had been copied from another run."""
    assert written.run_dir is not None
    run = Path(shutil.copytree(written.run_dir, tmp_path / "run"))
    content = json.loads((run / "config.json").read_text())
    place, value = OTHER[name]
    if place == name:
        content[name] = value
    else:
        content[place][name] = value
    if name == "agent":
        content["hyperparameters"] = hyperparameters.to_dict(PPO(**SMALL))
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=rf"belongs to other settings: .*{name}: checkpoint .*, requested ") as refused:
        rlgd.resume(run, total_timesteps=2 * TOTAL)
    if name != "agent":
        assert str(refused.value).count("requested") == 1


def test_another_number_type_or_kind_of_keys_is_refused(written: TrainResult) -> None:
    assert written.run_dir is not None
    with jax.enable_x64(True), pytest.raises(UsageError, match="dtype: checkpoint float32, requested float64"):
        rlgd.load(written.run_dir)
    with jax.default_prng_impl("rbg"), pytest.raises(UsageError, match="prng: checkpoint threefry2x32, requested rbg"):
        rlgd.load(written.run_dir)


def test_another_environment_is_refused_by_its_space(tmp_path: Path) -> None:
    train(A2C_SMALL, tmp_path)
    with pytest.raises(UsageError, match=r"obs space: checkpoint .*'shape': \[4\].*requested .*'shape': \[6\]"):
        rlgd.resume(tmp_path, env="Acrobot-v1", total_timesteps=2 * TOTAL)


def summary_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content


def test_a_finished_run_whose_end_is_damaged_is_trained_to_its_end_again(tmp_path: Path, written: TrainResult) -> None:
    assert written.run_dir is not None
    whole = train(A2C_SMALL, tmp_path, checkpoint_every=256)
    next((tmp_path / "checkpoints" / str(TOTAL) / "agent" / "d").iterdir()).write_bytes(b"")
    resumed = rlgd.resume(tmp_path)
    assert (resumed.steps, resumed.reason) == (TOTAL, "total_timesteps")
    assert resumed.metrics["step"][0] == 768 + 64
    for one, other in zip(arrays(whole), arrays(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert rlgd.resume(tmp_path).reason == "already complete"


def test_an_evaluation_that_was_broken_off_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluator, "evaluate", broken)
    with pytest.raises(KeyboardInterrupt):
        train(A2C_SMALL, tmp_path)
    monkeypatch.undo()
    resumed = rlgd.resume(tmp_path)
    assert resumed.evaluation is not None
    assert (resumed.steps, resumed.reason) == (TOTAL, "total_timesteps")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval/episode_return" in line] == [TOTAL]


@pytest.mark.parametrize("at", ["stopping", "evaluating"])
def test_a_criterion_that_fired_outlives_a_signal(at: str, tmp_path: Path) -> None:
    """Stopped by its first row, then asked to end: resumed, it does not train on."""
    settings = RunSettings(TOTAL, eval_episodes=2, stopping=Stopping(min_gradient_norm=1e9))
    config = RunConfig(A2C_SMALL, rlgd.envs.make("CartPole-v1"), settings, chunk_length=4)
    answers = iter([None, None, 15] if at == "evaluating" else [15])
    with pytest.raises(Interrupted):
        execute(config, tmp_path, poll_signal=lambda: next(answers, 15))
    steps = summary_of(tmp_path)["steps"]
    assert steps < TOTAL
    resumed = rlgd.resume(tmp_path)
    assert (resumed.steps, resumed.reason) == (steps, "min_gradient_norm")
    assert resumed.evaluation is not None
    assert rlgd.resume(tmp_path).reason == "already complete"


def test_the_best_policy_is_kept_until_a_better_one_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = state_module.save
    refused: list[list[int]] = []

    def refusing(directory: Path, steps: int, *rest: Any) -> None:
        if directory.name == "best" and steps > 256 and len(refused) < 2:
            refused.append(sorted(folder.all_steps(directory)))
            raise StorageFault("full")
        save(directory, steps, *rest)

    monkeypatch.setattr(state_module, "save", refusing)
    returns = iter([1.0, 2.0, 3.0, 4.0])

    def rising(*arguments: Any, **options: Any) -> EvalResult:
        return EvalResult(np.array([next(returns)]), np.array([1]), True)

    monkeypatch.setattr(evaluator, "evaluate", rising)
    result = train(A2C_SMALL, tmp_path, eval_every=256, checkpoint_every=256, keep=9)
    assert refused == [[256], [256]]
    assert summary_of(tmp_path)["best"]["step"] == result.steps == TOTAL
    assert folder.all_steps(tmp_path / "best") == [TOTAL]


def test_the_last_state_is_kept_where_it_is_best_however_late_its_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last checkpoint is submitted before the last evaluation, and written after it here.
    write_best = DiskRecording._write_best

    def late(journal: DiskRecording) -> None:
        end = time.monotonic() + 0.5
        while journal._best is None and time.monotonic() < end:
            time.sleep(0.001)
        write_best(journal)

    monkeypatch.setattr(DiskRecording, "_write_best", late)
    returns = iter([1.0, 2.0])
    monkeypatch.setattr(
        evaluator, "evaluate", lambda *_, **__: EvalResult(np.array([next(returns)]), np.array([1]), True)
    )
    result = train(A2C_SMALL, tmp_path, eval_every=TOTAL // 2, checkpoint_every=TOTAL // 2)
    assert summary_of(tmp_path)["best"]["step"] == result.steps == TOTAL
    assert folder.all_steps(tmp_path / "best") == [TOTAL]


@pytest.mark.parametrize("every", [1e5, True, None, np.int64(1000), "1h", "5m", "", b"60s"])
def test_an_interval_is_seconds_or_steps(every: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint_every is"):
        train(A2C_SMALL, tmp_path / "run", checkpoint_every=every)
    assert not (tmp_path / "run").exists()
