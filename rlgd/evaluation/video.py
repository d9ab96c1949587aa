"""Watching a policy: whole episodes in a window, or in a video by Gymnasium's own recorder."""

import contextlib
import dataclasses
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from gymnasium.wrappers import RecordVideo
from numpy.typing import NDArray

from rlgd.envs import Env
from rlgd.envs.aliases import GymEnv
from rlgd.envs.rendering import PICTURES, WINDOW, alone, rendered
from rlgd.errors import EnvironmentFault, StorageFault, UsageError, whole_number
from rlgd.evaluation.evaluator import EvalResult, play_in, playable
from rlgd.evaluation.policy import Policy
from rlgd.system.files import check_regular

Recorder: TypeAlias = RecordVideo[Any, Any]

FORMATS = (".mp4", ".gif")
GIF_FPS = 50  # at most: browsers show pictures of less than 20 ms for 100 ms
PREVIEW_SECONDS, PREVIEW_WIDTH, PREVIEW_FPS = 10, 320, 10  # at most


@dataclasses.dataclass(frozen=True, repr=False)
class PlayResult(EvalResult):
    """The episodes, and ``video``, the file that shows them; None if a window did."""

    video: Path | None


def play(
    policy: Policy | Callable[[NDArray[Any]], NDArray[Any]],
    env: Any,
    *,
    episodes: int = 1,
    seed: int = 0,
    deterministic: bool = True,
    video: str | Path | None = None,
    max_steps: int | None = None,
) -> PlayResult:
    """Play whole episodes of one environment, one after the other, and show them.

    Args:
        policy, env, seed, deterministic, max_steps: as for ``rlgd.evaluation.evaluator.evaluate``.
        episodes: how many, at least 1.
        video: the ``.mp4`` or ``.gif`` file to write; an existing video is replaced when the new one is complete. Until
            then all pictures are kept in RAM, 0.7 MB a step at 600 x 400 pixels. None shows the episodes in a window.

    Raises:
        UsageError: if the policy does not fit the environment; if the environment cannot be rendered; if there is no
            display or no MoviePy; if the video's folder cannot be written.
        EnvironmentFault: if the environment breaks.
        StorageFault: if the video cannot be written completely.
    """
    episodes, seed = whole_number("episodes", episodes, 1), whole_number("seed", seed)
    target = playable(policy, env, max_steps)
    file = None if video is None else Path(video)
    with _in_a_window(target) if file is None else _recorded(target, file) as shown:
        result = play_in(alone(shown, target.spec, target.env_id), policy, episodes, seed, deterministic)
    return PlayResult(result.returns, result.lengths, result.deterministic, file)


@contextlib.contextmanager
def _in_a_window(env: Env) -> Iterator[GymEnv]:
    if not _has_display() and "SDL_VIDEODRIVER" not in os.environ:
        raise UsageError("there is no display to show the episodes on; record them with --video FILE, or video=.")
    with contextlib.closing(rendered(env, WINDOW)) as shown:
        yield shown


def _has_display() -> bool:
    return not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


@contextlib.contextmanager
def _recorded(env: Env, video: Path) -> Iterator[Recorder]:
    """The environment in a recorder; writes the video if the block ends without an exception."""
    with _folder_for(video) as folder:
        if not _has_display():
            # By default MuJoCo opens a window for its OpenGL context, which fails without a display.
            os.environ.setdefault("MUJOCO_GL", "egl")
        recorder = RecordVideo(
            rendered(env, PICTURES),
            str(folder / "recorded"),
            episode_trigger=lambda number: number == 0,
            video_length=sys.maxsize,  # all episodes in one video
        )
        try:
            yield recorder
            _check_pictures(recorder, env.env_id)
            try:
                os.replace(_written(recorder, video.suffix.lower()), video)
            except OSError as error:
                raise StorageFault(f"{video} could not be written; is there room for it?") from error
        finally:
            recorder.recording, recorder.recorded_frames = False, []  # otherwise closing would write a video too
            recorder.close()


@contextlib.contextmanager
def _folder_for(video: Path) -> Iterator[Path]:
    """A temporary folder next to the video, to write it in."""
    if video.suffix.lower() not in FORMATS:
        raise UsageError(f"the video is {str(video)!r}; its name must end with {' or '.join(FORMATS)}.")
    if importlib.util.find_spec("moviepy") is None:
        raise UsageError("a video needs MoviePy: pip install 'rlgd[video]'.")
    try:
        check_regular(video)
        if video.exists() and not _is_video(video):
            raise UsageError(f"{video} is in the way, and is no video; name another file.")
        folder = tempfile.TemporaryDirectory(prefix=f".{video.stem}-", dir=video.parent)
    except OSError as error:
        raise UsageError(f"the video {video} cannot be written: {error.strerror}: {video.parent}") from error
    with folder as name:
        yield Path(name)


def _is_video(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith(b"GIF8") or head.endswith(b"ftyp")


def _check_pictures(recorder: Recorder, env_id: str) -> None:
    frames: list[Any] = recorder.recorded_frames  # the recorder stops at a frame that is not an array
    kinds = {(frame.shape, frame.dtype.name) for frame in frames}
    if len(kinds) == 1 and all(len(shape) == 3 and shape[2] == 3 and dtype == "uint8" for shape, dtype in kinds):
        return
    seen = ", ".join(f"{dtype} {shape}" for shape, dtype in sorted(kinds)) or "no array"
    raise EnvironmentFault(f"{env_id} rendered {seen}; its pictures must be uint8 [height, width, 3], all of one size.")


def _written(recorder: Recorder, suffix: str) -> Path:
    """Write the recorded pictures to a file; Gymnasium's recorder itself can only write MP4."""
    from moviepy import ImageSequenceClip, VideoFileClip

    path = Path(recorder.video_folder, f"{recorder.name_prefix}-episode-0{suffix}")
    recorder.recorded_frames.append(recorder.recorded_frames[-1])  # MoviePy's rounding often drops the last picture
    if suffix == ".mp4":
        recorder.stop_recording()
        VideoFileClip(str(path)).close()  # raises if the file is incomplete: MoviePy does not notice a full disk
    else:
        clip = ImageSequenceClip(recorder.recorded_frames, fps=recorder.frames_per_sec)
        clip.write_gif(str(path), fps=min(clip.fps, GIF_FPS), logger=None)
    return path


def preview(video: Path) -> bytes:
    """The beginning of a video as a small GIF."""
    from moviepy import VideoFileClip

    with VideoFileClip(str(video)) as whole, tempfile.TemporaryDirectory() as folder:
        clip = whole.subclipped(0, min(whole.duration, PREVIEW_SECONDS)).resized(width=min(whole.w, PREVIEW_WIDTH))
        path = Path(folder, "preview.gif")
        clip.write_gif(str(path), fps=min(clip.fps, PREVIEW_FPS), logger=None)
        return path.read_bytes()
