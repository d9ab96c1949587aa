"""TensorBoard's event files: curves against steps and training time, hyper-parameters and their results."""

import contextlib
import itertools
import os
import re
import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.layout_pb2 import Category, Chart, Layout, MarginChartContent, MultilineChartContent
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams

from rlgd.errors import StorageFault
from rlgd.run.sinks.rows import Row
from rlgd.system.files import Appender

# What a run is asked for, as TensorBoard names it. It sorts tags by their names: Time Series opens the first two
# groups, HParams shows the first five. So these are in a group that comes before ascent/, that of a study's answer.
RETURN = "answer/return in evaluation"
ANSWERS = {
    "eval/episode_return": RETURN,
    "rollout/episode_return": "answer/return in training",
    "rollout/episode_return_100": "answer/return in training, last 100 episodes",
    "rollout/success_rate": "answer/success rate in training",
    "time/training_seconds": "answer/training seconds",
    "time/steps_per_second": "answer/training steps per second",
}
# HParams shows five settings: first those that differ between the runs of a folder, then the others, each part sorted
# by name. Capitals come before small letters, so these five are shown where nothing else differs.
HEADINGS = {
    "agent": "Agent",
    "env": "Env",
    "learning_rate": "Learning rate",
    "momentum": "Momentum",
    "optimizer": "Optimizer",
}
# The Custom Scalars tab of a run: for each heading its charts, by title, with an expression for the tags of each. It is
# the same in all runs, since TensorBoard shows what any of them has.
CHARTS = {
    "return": {
        "return": "answer/return in (evaluation|training)$",
        "length of episodes": "(eval|rollout)/episode_length$",
    },
    "ascent": {
        "length of gradients": "ascent/.*gradient_norm$",
        "length of steps": "ascent/update_norm$",
        "angles between gradients, and to the momentum": "ascent/.*_alignment$",
        "step size and momentum, and what drives them": "control/.*",
    },
    "losses": {
        "objective": "train/objective$",
        "error of the value function": "train/value_error$",
        "entropy": "train/entropy$",
    },
    "time": {
        "steps per second": "answer/training steps per second$",
        "seconds": "(answer/training|time/compile).seconds$",
    },
}
PREFIX, IMAGE = "events.out.tfevents.", ".image-"
DIGITS = 19  # at the end of the names of our files, by which they are known; no other program writes that many


class EventFile:
    """An event file, written without a buffer: every event outlives the process, whatever ends it."""

    def __init__(self, directory: Path, kind: str = ".") -> None:
        now = max(time.time_ns(), 0)
        self.path = next(path for path in _names(directory, kind, now) if not os.path.lexists(path))
        self._file = Appender(self.path)
        self._append(Event(wall_time=now / 1e9, file_version="brain.Event:2"))

    def add(self, wall_time: float, step: int, summary: Any) -> None:
        """Add an event."""
        self._append(Event(wall_time=wall_time, step=step, summary=summary))

    def _append(self, event: Any) -> None:
        # The TFRecord format. tensorboardX's own writer hangs when a disk is full.
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        check, data_check = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
        self._file.append(length + check + data + data_check)

    @property
    def fault(self) -> str | None:
        """What is wrong now, or None."""
        return self._file.fault

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Writes rows as scalars.

    The wall time of a point is the start of the run plus its training seconds, so that TensorBoard's relative axis
    shows training time, without compilation and evaluation; a point at zero fixes the origin.

    Args:
        run_dir: the run's directory.
        start: when the run began, in seconds.
        hyperparameters: for the HParams tab.
        group: of runs that differ by their seed only.
        unused: metrics that are no curves here.
    """

    def __init__(
        self,
        run_dir: Path,
        start: float,
        hyperparameters: Mapping[str, Any],
        group: str,
        unused: Collection[str] = (),
    ) -> None:
        self.start, self.unused = start, unused
        self.events = EventFile(run_dir)
        for summary in (*session_summaries(hyperparameters, group), _layout(_charts())):
            self.events.add(start, 0, summary)
        self.write(Row(0, 0.0, {"time/training_seconds": 0.0}))

    @classmethod
    def continued(
        cls,
        rows: Iterable[Row],
        run_dir: Path,
        start: float,
        hyperparameters: Mapping[str, Any],
        group: str,
        unused: Collection[str] = (),
    ) -> "TensorBoard":
        """Begin with the rows that a run has already; this file replaces its earlier ones."""
        earlier = [path for path in own_files(run_dir) if IMAGE not in path.name]
        board = cls(run_dir, start, hyperparameters, group, unused)
        for row in rows:
            board.write(row)
        for path in earlier:
            path.unlink()
        return board

    def write(self, row: Row) -> None:
        """Add a row's values as points."""
        used = {name: value for name, value in row.values.items() if name not in self.unused}
        self.events.add(self.start + row.seconds, row.step, _scalars(used))

    @property
    def fault(self) -> str | None:
        """What is wrong now, or None."""
        return self.events.fault

    def close(self) -> None:
        """Close the file."""
        self.events.close()


def _names(directory: Path, kind: str, now: int) -> Iterator[Path]:
    """Names of an event file: a clock can be wrong or stand still, so time alone does not make them differ."""
    for number in itertools.count(now):
        yield directory / f"{PREFIX}{now // 10**9}.{socket.gethostname()}{kind}{number:0{DIGITS}}"


def own_files(run_dir: Path) -> list[Path]:
    """The event files that rlgd wrote."""
    name = re.compile(rf"{re.escape(PREFIX)}\d+\..*({re.escape(IMAGE)}|\.)\d{{{DIGITS}}}")
    return sorted(path for path in run_dir.glob(f"{PREFIX}*") if name.fullmatch(path.name))


def remove_runs(directory: Path) -> None:
    """Remove the event files in a folder and below that rlgd wrote, and the folders that are empty then."""
    for folder, _, _ in os.walk(directory, topdown=False):
        for path in own_files(Path(folder)):
            path.unlink()
        with contextlib.suppress(OSError):  # somebody else's files are in it
            Path(folder).rmdir()


def _scalars(values: Mapping[str, float]) -> Any:
    return Summary(value=[Summary.Value(tag=ANSWERS.get(tag, tag), simple_value=x) for tag, x in values.items()])


def session_summaries(hyperparameters: Mapping[str, Any], group: str) -> list[Any]:
    """The summaries for the HParams tab; runs with the same ``group`` differ by their seed only.

    Without the summary that lists the columns: TensorBoard takes that of any one run for a whole folder, and hides what
    the others have. Where no run has one, it shows the settings of all, and first what differs.
    """
    plain = {
        HEADINGS.get(name, name): value
        for name, value in hyperparameters.items()
        if isinstance(value, bool | int | float | str)
    }
    _, session_start, session_end = hparams(plain, {})
    plugin = session_start.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    content.session_start_info.group_name = group
    plugin.content = content.SerializeToString()
    return [session_start, session_end]


def write_run(
    directory: Path,
    start: float,
    hyperparameters: Mapping[str, Any],
    group: str,
    rows: Iterable[Row],
    metrics: Iterable[str],
) -> None:
    """Write a finished run: its hyper-parameters, and the values of ``metrics`` in its rows.

    Raises:
        StorageFault: if it cannot be written.
    """
    wanted = set(metrics)
    begin = [(start, 0, summary) for summary in session_summaries(hyperparameters, group)]
    scalars = [
        (start + row.seconds, row.step, _scalars({tag: x for tag, x in row.values.items() if tag in wanted}))
        for row in rows
    ]
    _write(directory, [*begin, *scalars])


def _write(directory: Path, events: Iterable[tuple[float, int, Any]]) -> None:
    """Write an event file of summaries, each with its wall time in seconds and its step."""
    directory.mkdir(parents=True, exist_ok=True)
    file = EventFile(directory)
    for event in events:
        file.add(*event)
    file.close()
    if file.fault is not None:
        raise StorageFault(f"{file.fault}.")


class Board(NamedTuple):
    """What a run shows that was not trained: numbers, texts and charts that were computed.

    Attributes:
        scalars: for each step the values of tags.
        texts: Markdown, by tag.
        bands: for each heading the charts of the Custom Scalars tab, by their titles: the tags of a value, of its lower
            and of its upper bound.
        session: the settings of this run, a row of the HParams tab.
        group: the name of the row.
    """

    scalars: Iterable[tuple[int, Mapping[str, float]]] = ()
    texts: Mapping[str, str] = {}
    bands: Mapping[str, Mapping[str, tuple[str, str, str]]] = {}
    session: Mapping[str, bool | float | str] = {}
    group: str = ""


def write_board(directory: Path, start: float, board: Board) -> None:
    """Write a run that was computed; its points have the wall time ``start``.

    Raises:
        StorageFault: if it cannot be written.
    """
    summaries = [_text(tag, text) for tag, text in board.texts.items()]
    summaries += [_layout(_bands(board.bands))] if board.bands else []
    summaries += session_summaries(board.session, board.group) if board.session else []
    events = [(start, 0, summary) for summary in summaries]
    _write(directory, [*events, *((start, step, _scalars(values)) for step, values in board.scalars)])


def _tensor(tag: str, plugin: str, content: bytes) -> Any:
    """A summary of bytes for a tab of TensorBoard."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=TensorShapeProto())
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def _text(tag: str, markdown: str) -> Any:
    return _tensor(tag, "text", markdown.encode())


def _bands(headings: Mapping[str, Mapping[str, tuple[str, str, str]]]) -> dict[str, list[Any]]:
    """Charts of values in their bands."""

    def chart(title: str, tags: tuple[str, str, str]) -> Any:
        value, lower, upper = tags
        series = MarginChartContent.Series(value=value, lower=lower, upper=upper)
        return Chart(title=title, margin=MarginChartContent(series=[series]))

    # Of charts with bands TensorBoard shows the last one first.
    return {heading: [chart(*pair) for pair in reversed(list(charts.items()))] for heading, charts in headings.items()}


def _charts() -> dict[str, list[Any]]:
    """The charts of a run."""
    return {
        heading: [Chart(title=title, multiline=MultilineChartContent(tag=[tags])) for title, tags in charts.items()]
        for heading, charts in CHARTS.items()
    }


def _layout(headings: Mapping[str, list[Any]]) -> Any:
    """The layout of the Custom Scalars tab: the charts below each heading."""
    categories = [Category(title=heading, chart=charts) for heading, charts in headings.items()]
    return _tensor("custom_scalars__config__", "custom_scalars", Layout(category=categories).SerializeToString())


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
    try:
        directory.mkdir(parents=True, exist_ok=True)
        events = EventFile(directory, IMAGE)
        events.add(time.time(), step, Summary(value=[Summary.Value(tag=tag, image=image)]))
        fault = events.fault
        events.close()
    except OSError as error:
        fault = error.strerror
    if fault is not None:
        raise StorageFault(f"{tag} could not be added to {directory} for TensorBoard: {fault}.")
