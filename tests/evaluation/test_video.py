"""Videos and windows: they show the played episodes, and leave no file if that is not possible."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import pygame
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import SyncVectorEnv
from jax import Array
from moviepy import VideoFileClip
from moviepy.config import FFMPEG_BINARY
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlgd
from rlgd.agents import PPO
from rlgd.envs import DeviceEnv, HostEnv, make
from rlgd.envs.rendering import PICTURES, alone, rendered
from rlgd.errors import EnvironmentFault, StorageFault, UsageError
from rlgd.evaluation import Policy
from rlgd.evaluation.video import play, preview
from rlgd.run.sinks.tensorboard import add_video

CARTPOLE = "CartPole-v1"
FRAMES_PER_SECOND = 50
OLD = b"\0\0\0\x20ftypisom, a film of long ago"

Pictures = list[NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("play") / "run"
    agent = PPO(num_envs=4, rollout_length=16, num_epochs=1, num_minibatches=1, hidden_sizes=(8,), measure_every=0)
    rlgd.train(agent, CARTPOLE, total_timesteps=64, run_dir=run, eval_episodes=1)
    return run


@pytest.fixture(scope="module", name="policy")
def _policy(run: Path) -> Policy:
    return rlgd.load(run)


def pictures_of(video: Path, number: int) -> Pictures:
    """All pictures, read by ffmpeg: MoviePy stops at a rounded duration. The last picture may appear twice."""
    with VideoFileClip(str(video)) as clip:
        width, height = clip.size
    command = [FFMPEG_BINARY, "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    pictures = list(np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3))
    assert number <= len(pictures) <= number + 1
    return pictures[:number]


def shown_by_hand(policy: Policy, episodes: int, seed: int) -> tuple[list[float], Pictures]:
    """Returns and pictures of the greedy policy's episodes, made by Gymnasium alone."""
    env: Any = gymnasium.make(CARTPOLE, render_mode="rgb_array")
    returns, pictures = [], []
    for episode in range(episodes):
        obs, _ = env.reset(seed=None if episode else seed)
        pictures.append(env.render())
        total, done = 0.0, False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(policy(obs))
            pictures.append(env.render())
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return returns, pictures


def push_right(obs: Any) -> NDArray[Any]:
    return np.ones(len(obs), np.int64)


def never(obs: Any) -> NDArray[Any]:
    raise AssertionError("it must not be stepped")


# What a video shows


@pytest.fixture(scope="module", name="film")
def _film(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    film = tmp_path_factory.mktemp("film") / "film.mp4"
    film.write_bytes(OLD)
    play(policy, CARTPOLE, episodes=2, seed=3, video=film)
    return film


def test_a_video_shows_every_state_of_whole_episodes(policy: Policy, film: Path) -> None:
    _, pictures = shown_by_hand(policy, episodes=2, seed=3)
    seen = pictures_of(film, len(pictures))
    for picture, expected in zip(seen, pictures, strict=True):
        assert picture.shape == expected.shape == (400, 600, 3)
        assert np.abs(picture.astype(int) - expected).mean() < 1  # what compression costs
    # different pictures differ by more
    assert np.abs(seen[0].astype(int) - pictures[-1]).mean() > 1
    with VideoFileClip(str(film)) as clip:
        assert clip.fps == FRAMES_PER_SECOND
    assert list(film.parent.iterdir()) == [film]


def test_a_gif_shows_them_as_long(policy: Policy, tmp_path: Path) -> None:
    film = tmp_path / "film.GIF"
    result = play(policy, CARTPOLE, episodes=2, seed=3, video=str(film))
    returns, pictures = shown_by_hand(policy, episodes=2, seed=3)
    assert result.returns.tolist() == result.lengths.tolist() == returns
    assert result.video == film
    with Image.open(film) as gif:
        assert gif.size == (600, 400)
        first = np.asarray(gif.convert("RGB"))
        shown_ms = 0
        for number in range(getattr(gif, "n_frames", 1)):  # pictures that are alike are one that is shown longer
            gif.seek(number)
            shown_ms += gif.info["duration"]
    assert np.abs(first.astype(int) - pictures[0]).mean() < 1
    picture_ms = 1000 // FRAMES_PER_SECOND
    assert shown_ms - len(pictures) * picture_ms in (0, picture_ms)
    assert list(tmp_path.iterdir()) == [film]


def test_the_same_seed_shows_the_same_and_samples_too(policy: Policy, tmp_path: Path) -> None:
    for sampled in (False, True):
        results = [
            play(policy, CARTPOLE, seed=seed, deterministic=not sampled, max_steps=12, video=tmp_path / f"{name}.gif")
            for name, seed in (("a", 1), ("b", 1), ("c", 2))
        ]
        a, b, c = ((tmp_path / f"{name}.gif").read_bytes() for name in "abc")
        assert a == b != c
        assert results[0].returns.tolist() == results[1].returns.tolist()
    greedy = play(policy, CARTPOLE, seed=1, max_steps=12, video=tmp_path / "greedy.gif")
    assert greedy.deterministic
    assert (tmp_path / "greedy.gif").read_bytes() != a


def test_an_episode_ends_with_max_steps(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    result = play(push_right, CARTPOLE, episodes=3, max_steps=4, video=film)
    assert result.lengths.tolist() == [4, 4, 4]
    pictures_of(film, number=3 * 5)


def test_arguments_and_limit_of_the_environment_hold(tmp_path: Path) -> None:
    way = iter([2, 2, 1, 1, 1, 2])
    env = make("FrozenLake-v1", is_slippery=False)
    result = play(lambda obs: np.array([next(way)]), env, video=tmp_path / "film.gif")
    assert result.returns.tolist() == [1.0]
    limited = make(CARTPOLE, backend="host", max_episode_steps=3)
    assert play(push_right, limited, video=tmp_path / "film.gif").lengths.tolist() == [3]


# Environments that draw themselves


class Painter(FuncEnv[Array, Array, Array, Array, Array, list[Any], Any]):
    """The state counts the steps and sets the picture's brightness; only the odd action is allowed."""

    observation_space = Box(-1.0, 100.0, (1,))
    action_space = Discrete(2)

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(())

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return state + action.astype(state.dtype)

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state[None]

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return next_state

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state >= 4

    def state_info(self, state: Array, params: Any = None) -> dict[str, Array]:
        return {"action_mask": jnp.array([False, True])}

    def render_init(self, params: Any = None, **kwargs: Any) -> list[Any]:
        return []

    def render_image(self, state: Array, render_state: list[Any], params: Any = None) -> tuple[list[Any], Any]:
        return [*render_state, state], np.full((32, 48, 3), 50 * state, np.uint8)

    def render_close(self, render_state: list[Any], params: Any = None) -> None:
        self.painted = len(render_state)


class Unseen(Painter):
    def render_init(self, params: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError


class Unsettled(Painter):
    """Its first state has another dtype than the later ones."""

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jnp.zeros((), jnp.int32)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return state.astype(jnp.float32) + action.astype(jnp.float32)


def test_a_functional_environment_paints_itself(tmp_path: Path) -> None:
    env, film = Painter(), tmp_path / "film.mp4"
    result = play(push_right, env, episodes=2, video=film)
    assert result.returns.tolist() == [10.0, 10.0]
    brightness = [picture.mean() for picture in pictures_of(film, number=10)]
    np.testing.assert_allclose(brightness, [0, 50, 100, 150, 200] * 2, atol=3)
    assert env.painted == 10
    assert play(push_right, env, max_steps=2, video=film).lengths.tolist() == [2]


def test_one_whose_shapes_had_to_be_settled_paints_too(tmp_path: Path) -> None:
    env, film = make(Unsettled()), tmp_path / "film.mp4"
    assert isinstance(env, DeviceEnv)
    assert not isinstance(env.func_env, Painter)
    play(push_right, env, max_steps=2, video=film)
    np.testing.assert_allclose([picture.mean() for picture in pictures_of(film, number=3)], [0, 50, 100], atol=3)


def test_its_action_masks_reach_the_policy() -> None:
    env = DeviceEnv(Painter(), "Painter", None)
    vector = alone(rendered(env, PICTURES), env.spec, env.env_id)
    vector.reset(0)
    assert vector.action_mask is not None
    assert vector.action_mask.tolist() == [[False, True]]
    vector.step(np.array([1]))
    assert vector.action_mask.tolist() == [[False, True]]
    vector.close()


def test_a_twin_looks_as_gymnasiums() -> None:
    drawn = rendered(make(CARTPOLE), PICTURES)
    obs, _ = drawn.reset(seed=0)
    again, _ = drawn.reset(seed=0)
    np.testing.assert_array_equal(obs, again)
    original: Any = gymnasium.make(CARTPOLE, render_mode="rgb_array").unwrapped
    original.state = obs.tolist()
    np.testing.assert_array_equal(drawn.render(), original.render())
    assert drawn.metadata["render_fps"] == FRAMES_PER_SECOND


# In a window


@pytest.mark.parametrize("env", [make(CARTPOLE, backend="host"), make(CARTPOLE)], ids=["its own", "around pictures"])
def test_without_a_video_there_is_a_window(env: HostEnv | DeviceEnv) -> None:
    sizes = []

    def look(obs: Any) -> NDArray[Any]:
        window = pygame.display.get_surface()
        assert window is not None
        sizes.append(window.get_size())
        return push_right(obs)

    result = play(look, env, max_steps=3)
    assert result.video is None
    assert sizes == [(600, 400)] * 3
    assert not pygame.display.get_init()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_without_a_display_the_video_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"no display.*--video FILE"):
        play(never, CARTPOLE)


# What is refused before anything is played


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("film.avi", r"film\.avi.*must end with \.mp4 or \.gif"),
        ("film", r"must end with \.mp4 or \.gif"),
        ("nowhere/film.mp4", "cannot be written: No such file"),
        ("a file/film.mp4", "cannot be written: Not a directory"),
        ("folder.gif", "cannot be written: there is a folder"),
        ("link.gif", "cannot be written: there is a symbolic link"),
        ("notes.mp4", r"notes\.mp4 is in the way, and is no video"),
    ],
)
def test_a_place_that_will_not_do_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "link.gif").symlink_to("a file")
    (tmp_path / "notes.mp4").write_text("how to make a film")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message):
        play(never, CARTPOLE, video=tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_moviepy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moviepy", None)
    with pytest.raises(UsageError, match=r"pip install 'rlgd\[video\]'"):
        play(never, CARTPOLE, video=tmp_path / "film.mp4")


class Words(gymnasium.Env[Any, Any]):
    """Renders as text; with ``modes`` it claims more, and gives ``picture``."""

    observation_space = Box(-1.0, 1.0, (1,))
    action_space = Discrete(2)

    def __init__(self, modes: tuple[str, ...] = ("ansi",), render_mode: str | None = None) -> None:
        self.metadata = {"render_modes": list(modes)}
        self.render_mode = render_mode
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.zeros(1, np.float32), 0.0, self.t == 3, False, {}

    def render(self) -> Any:
        return self.picture()

    def picture(self) -> Any:
        return "a word"


class Growing(Words):
    def picture(self) -> Any:
        return np.zeros((16 + self.t, 16, 3), np.uint8)


class Breaking(Words):
    def picture(self) -> Any:
        if self.t == 2:
            raise RuntimeError("no paint left")
        return np.zeros((16, 16, 3), np.uint8)


def test_an_environment_without_pictures_is_refused(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    running = SyncVectorEnv([lambda: gymnasium.make(CARTPOLE)])
    refused = [
        (make(Words), "Words gives no pictures: its render modes are ansi"),
        (make(Words, modes=[]), "its render modes are none at all"),
        (make(Growing(("rgb_array",))), "Growing has the render mode None, and 'rgb_array' is needed"),
        (Unseen(), "Unseen gives no pictures: its class has no render_init"),
        (make(running), "running vector environment, which is not rendered"),
    ]
    for env, message in refused:
        with pytest.raises(UsageError, match=message):
            play(never, env, video=film)
    with pytest.raises(UsageError, match=r"no window of its own.*'render_fps'"):
        play(never, make(Growing, modes=["rgb_array"]))
    assert not list(tmp_path.iterdir())
    running.close()


# What goes wrong on the way


@pytest.fixture(name="old")
def _old(tmp_path: Path) -> Iterator[Path]:
    """A video that must not change, in a folder that must have no other file."""
    old = tmp_path / "film.mp4"
    old.write_bytes(OLD)
    yield old
    assert old.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Words, "Words rendered no array; its pictures must be uint8"),
        (Growing, r"Growing rendered uint8 \(16, 16, 3\), uint8 \(17, 16, 3\).*all of one size"),
        (Breaking, "Breaking: environment 0 raised RuntimeError.*no paint left"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*Recording stopped", "ignore:.*Ignored saving a video")
def test_a_broken_environment_leaves_the_old_video(env: type[Words], message: str, old: Path) -> None:
    with pytest.raises(EnvironmentFault, match=message):
        play(push_right, make(env, modes=["rgb_array"]), video=old)


def test_an_interrupted_player_leaves_the_old_video(old: Path) -> None:
    def interrupted(obs: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(interrupted, CARTPOLE, video=old)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Pillow tries again
def test_a_full_disk_leaves_the_old_video(suffix: str, tmp_path: Path) -> None:
    old = tmp_path / f"film{suffix}"
    old.write_bytes(OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(StorageFault, match="could not be written; is there room for it"):
            play(push_right, CARTPOLE, episodes=2, video=old)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert old.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [old]


# In TensorBoard


def curves(events: EventAccumulator) -> dict[str, list[Any]]:
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_the_video_beside_the_curves(run: Path, film: Path) -> None:
    files = {path: path.read_bytes() for path in run.glob("events*")}
    before = EventAccumulator(str(run)).Reload()
    add_video(run, preview(film), 48)
    add_video(run, preview(film), 64)
    after = EventAccumulator(str(run)).Reload()
    assert {path: path.read_bytes() for path in files} == files
    assert len(curves(before)) > 5
    assert curves(after) == curves(before)
    hparams = before.PluginTagToContent("hparams")
    assert hparams
    assert after.PluginTagToContent("hparams") == hparams
    assert after.Tags()["images"] == ["play/video"]
    shown = after.Images("play/video")
    assert [image.step for image in shown] == [48, 64]
    assert (shown[1].width, shown[1].height) == (320, 213)
    assert shown[1].encoded_image_string == preview(film)


def test_a_preview_is_short_and_small(tmp_path: Path) -> None:
    film, short = tmp_path / "film.mp4", tmp_path / "short.gif"
    play(push_right, Painter(), episodes=70, video=film)
    with VideoFileClip(str(film)) as clip:
        assert clip.duration > 11
    short.write_bytes(preview(film))
    assert len(short.read_bytes()) < 100_000
    with VideoFileClip(str(short)) as clip:
        assert clip.duration == pytest.approx(10, abs=0.2)
        assert clip.size == [48, 32]


def test_a_run_directory_that_cannot_be_written_is_named(tmp_path: Path, film: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(StorageFault, match=r"could not be added to .*run"):
        add_video(tmp_path / "run", preview(film), 0)


# The command


def test_the_command_records_and_says_what(run: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    flags = ["--video", str(film), "--episodes", "2", "--seed", "3", "--max-steps", "6", "--json"]
    command = [sys.executable, "-m", "rlgd", "play", str(run), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["lengths"] == [6, 6]
    assert (said["env"], said["policy"], said["video"]) == (CARTPOLE, "greedy", str(film))
    pictures_of(film, number=2 * 7)
    events = EventAccumulator(str(run)).Reload()
    assert events.Images("play/video")[-1].step == 64
