"""Event files: curves against steps and against training time, and hyper-parameters with what they led to.

The only module that imports tensorboardX.
"""

import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from rlgd.errors import StorageFault
from rlgd.records import Row

# The metrics of the HParams tab; both are scalars of the run.
OUTCOMES = ("eval/episode_return", "time/training_seconds")


class TensorBoard:
    """Writes rows as scalars.

    The wall time of a point is the start of the run plus its training seconds, so that TensorBoard's relative axis
    shows training time, without compilation and evaluation; a point at zero fixes the origin.
    """

    def __init__(self, run_dir: Path, start: float, hyperparameters: dict[str, Any], group: str) -> None:
        self.start = start
        self.writer = SummaryWriter(str(run_dir), max_queue=1000, flush_secs=10)
        for summary in session_summaries(hyperparameters, group):
            self.writer.file_writer.add_summary(summary, 0, start)
        self.writer.add_scalar("time/training_seconds", 0.0, 0, start)

    def write(self, row: Row) -> None:
        """Add a row's values as points."""
        for tag, value in row.values.items():
            self.writer.add_scalar(tag, value, row.step, self.start + row.seconds)

    def close(self) -> None:
        """Flush and close the file."""
        self.writer.close()


def session_summaries(hyperparameters: dict[str, Any], group: str) -> list[Any]:
    """The summaries by which the HParams tab knows a run, with ``group`` naming those that differ by seed alone."""
    plain = {name: value for name, value in hyperparameters.items() if isinstance(value, bool | int | float | str)}
    experiment, session_start, session_end = hparams(plain, dict.fromkeys(OUTCOMES, 0.0))
    plugin = session_start.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    content.session_start_info.group_name = group
    plugin.content = content.SerializeToString()
    return [experiment, session_start, session_end]


def write_run(
    directory: Path, start: float, hyperparameters: dict[str, Any], group: str, rows: Iterable[Row], tags: Iterable[str]
) -> None:
    """Write a finished run at once: its hyper-parameters, and of its rows the values of ``tags``."""
    wanted = set(tags)
    directory.mkdir(parents=True, exist_ok=True)
    events = EventsWriter(str(directory / "events"))
    for summary in session_summaries(hyperparameters, group):
        events.write_event(Event(wall_time=start, step=0, summary=summary))
    for row in rows:
        values = [Summary.Value(tag=tag, simple_value=x) for tag, x in row.values.items() if tag in wanted]
        events.write_event(Event(wall_time=start + row.seconds, step=row.step, summary=Summary(value=values)))
    events.close()


def add_video(run_dir: Path, gif: bytes, step: int) -> None:
    """Show an animated GIF among a run's images, as ``play/video``; its event files stay as they are.

    Raises:
        StorageFault: if it cannot be written.
    """
    _add_image(run_dir, "play/video", gif, struct.unpack("<HH", gif[6:10]), step)


def add_pictures(directory: Path, pictures: Mapping[str, bytes]) -> None:
    """Show PNGs by their names.

    Raises:
        StorageFault: if they cannot be written.
    """
    for name, png in pictures.items():
        _add_image(directory, name, png, struct.unpack(">II", png[16:24]), 0)


def _add_image(directory: Path, tag: str, encoded: bytes, size: tuple[int, ...], step: int) -> None:
    width, height = size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        events = EventsWriter(str(directory / "events"), f".image-{time.time_ns()}")  # never the name of another file
        events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        events.close()
    except OSError as error:
        raise StorageFault(f"{tag} could not be added to {directory} for TensorBoard: {error.strerror}.") from error
