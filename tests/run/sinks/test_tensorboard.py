"""Event files, read back by TensorBoard."""

import re
import struct
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from rlgd.errors import StorageFault
from rlgd.run.sinks import tensorboard
from rlgd.run.sinks.rows import Row
from rlgd.run.sinks.tensorboard import ANSWERS, RETURN, TensorBoard, own_files

START = 1_700_000_000.0
HPARAMS = {"agent": "a2c", "momentum": 0.5, "hidden_sizes": "8-8", "nothing": None}
ROWS = [Row(8, 0.5, {"train/entropy": 0.25}), Row(16, 1.5, {"train/entropy": 0.5, "eval/episode_return": 3.0})]
GIF = b"GIF89a" + struct.pack("<HH", 3, 2)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 5, 4)


def read(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory)).Reload()


def test_a_row_is_a_point_at_its_step_and_training_time(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, START, HPARAMS, "momentum=0.5")
    for row in ROWS:
        board.write(row)
    points = read(tmp_path).Scalars("train/entropy")  # before it is closed
    assert [(p.step, p.value, p.wall_time - START) for p in points] == [(8, 0.25, 0.5), (16, 0.5, 1.5)]
    board.close()
    events = read(tmp_path)
    (origin,) = events.Scalars("answer/training seconds")
    assert (origin.step, origin.value, origin.wall_time) == (0, 0.0, START)
    assert [p.value for p in events.Scalars(RETURN)] == [3.0]
    assert board.fault is None


def test_hyperparameters_have_a_group(tmp_path: Path) -> None:
    TensorBoard(tmp_path, START, HPARAMS, "momentum=0.5").close()
    content = read(tmp_path).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert session.group_name == "momentum=0.5"
    assert set(session.hparams) == {"Agent", "Momentum", "hidden_sizes"}
    assert session.hparams["Momentum"].number_value == 0.5


def test_no_run_lists_the_columns_of_all_others(tmp_path: Path) -> None:
    TensorBoard(tmp_path, START, HPARAMS, "momentum=0.5").close()
    assert metadata.EXPERIMENT_TAG not in read(tmp_path).summary_metadata


def test_the_tags_of_the_answer_come_first(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, START, HPARAMS, "a")
    names = ["ascent/accepted", "eval/episode_length", *ANSWERS]
    board.write(Row(8, 0.5, dict.fromkeys(names, 1.0)))
    board.close()
    tags = sorted(read(tmp_path).Tags()["scalars"])
    assert tags[0] == RETURN
    assert tags == [*sorted(ANSWERS.values()), "ascent/accepted", "eval/episode_length"]


def test_unused_metrics_are_no_curves(tmp_path: Path) -> None:
    board = TensorBoard.continued(ROWS[:1], tmp_path, START, HPARAMS, "a", {"train/entropy"})
    board.write(ROWS[1])
    board.close()
    assert set(read(tmp_path).Tags()["scalars"]) == {RETURN, "answer/training seconds"}


def test_charts_have_the_tags_of_runs(tmp_path: Path) -> None:
    TensorBoard(tmp_path, START, HPARAMS, "a").close()
    events = EventAccumulator(str(tmp_path), {TENSORS: 0}).Reload()
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["return", "ascent", "losses", "time"]
    assert [chart.title for chart in layout.category[0].chart] == [
        "return",
        "length of episodes",
    ]  # shown from the last
    (tags,) = layout.category[0].chart[0].multiline.tag
    assert re.match(tags, RETURN)
    assert not re.match(tags, ANSWERS["rollout/episode_return_100"])


def test_a_resumed_run_has_one_file_with_all_rows(tmp_path: Path) -> None:
    TensorBoard(tmp_path, START, HPARAMS, "a").close()
    tensorboard.add_video(tmp_path, GIF, 8)
    (tmp_path / "events.out.tfevents.1.other").write_text("mine")
    board = TensorBoard.continued(ROWS[:1], tmp_path, START, HPARAMS, "a")
    board.write(ROWS[1])
    board.close()
    assert len(tensorboard.own_files(tmp_path)) == 2  # the curves, and the video
    assert (tmp_path / "events.out.tfevents.1.other").read_text() == "mine"
    (tmp_path / "events.out.tfevents.1.other").unlink()
    assert [p.step for p in read(tmp_path).Scalars("train/entropy")] == [8, 16]


def test_a_finished_run_is_written_at_once_with_the_tags_that_are_wanted(tmp_path: Path) -> None:
    tensorboard.write_run(tmp_path / "member", START, HPARAMS, "a", ROWS, ["eval/episode_return"])
    assert read(tmp_path / "member").Tags()["scalars"] == [RETURN]


def test_pictures_have_their_size(tmp_path: Path) -> None:
    tensorboard.add_pictures(tmp_path / "study", {"figures/curve": PNG})
    tensorboard.add_video(tmp_path / "study", GIF, 8)
    events = read(tmp_path / "study")
    (picture,), (video,) = events.Images("figures/curve"), events.Images("play/video")
    assert (picture.width, picture.height, picture.step, picture.encoded_image_string) == (5, 4, 0, PNG)
    assert (video.width, video.height, video.step) == (3, 2, 8)


def test_what_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFault, match=r"play/video could not be added to .*/file for TensorBoard"):
        tensorboard.add_video(tmp_path / "file", GIF, 8)


@pytest.mark.parametrize("moments", [(5, 5), (10**18 + 7, 5), (0, 6 * 10**18), (-3, -3)])
def test_a_resumed_run_replaces_its_file_whatever_the_clock_says(
    moments: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "events.out.tfevents.1700000000.host.1234.0"
    theirs.write_bytes(b"")
    monkeypatch.setattr(time, "time_ns", lambda: moments[0])
    TensorBoard(tmp_path, 0.0, {}, "group").close()
    monkeypatch.setattr(time, "time_ns", lambda: moments[1])
    TensorBoard.continued([Row(1, 1.0, {"a": 2.0})], tmp_path, 0.0, {}, "group").close()
    (path,) = own_files(tmp_path)
    assert path.stat().st_size
    assert theirs.exists()
