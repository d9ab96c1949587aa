"""Checkpoints of a run: when they are written, and what happens when they are damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import rlgd
from rlgd.errors import StorageFault, UsageError
from rlgd.run.checkpoints import folder, manifest
from rlgd.run.checkpoints.manifest import MANIFEST
from tests.support.small_runs import copy, parameters, train


def test_checkpoints_are_written_at_the_steps_that_were_asked_for(written: tuple[Path, rlgd.TrainResult]) -> None:
    assert folder.all_steps(written[0] / "checkpoints") == [256, 512, 768, 1024]
    assert not folder.incomplete(written[0] / "checkpoints")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    train(tmp_path, keep=2)
    assert folder.all_steps(tmp_path / "checkpoints") == [768, 1024]


def test_checkpoints_change_no_bit(tmp_path: Path, written: tuple[Path, rlgd.TrainResult]) -> None:
    for number, every in enumerate((64, 100, "0.001s", "1000s")):
        other = train(tmp_path / str(number), checkpoint_every=every, eval_every=None if number else 300)
        for one, two in zip(parameters(written[1]), parameters(other), strict=True):
            np.testing.assert_array_equal(one, two)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_one_flipped_byte_in_any_file_is_noticed(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult], caplog: pytest.LogCaptureFixture
) -> None:
    run = copy(written, tmp_path)
    newest = run / "checkpoints" / "1024"
    files = [path for path in sorted(newest.rglob("*")) if path.is_file()]
    assert len(files) > 20
    for path in files:
        whole = path.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(StorageFault, match=r"checkpoint of step 1,024 in .* is damaged: "):
                rlgd.load(run, 1024)
        caplog.clear()
        rlgd.load(run)
        (line,) = caplog.messages
        assert "the checkpoint of step 1,024" in line
        assert line.endswith("using that of step 768.")
        path.write_bytes(whole)
    rlgd.load(run, 1024)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def accompanied(path: Path) -> None:
    path.with_name("extra").write_text("mine")


DAMAGE: list[Callable[[Path], None]] = [Path.unlink, emptied, halved, random_bytes, linked, accompanied]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["agent/_METADATA", "loop/manifest.ocdbt"])
def test_damage_is_named_and_resume_goes_back_to_what_holds(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult], damage: Callable[[Path], None], name: str
) -> None:
    run = copy(written, tmp_path)
    damage(run / "checkpoints" / "1024" / name)
    (run / "summary.json").unlink()  # as if it had been killed
    with pytest.raises(StorageFault, match=rf"1,024 in .* is damaged: .*({name}|extra|elsewhere)"):
        rlgd.load(run, 1024)
    resumed = rlgd.resume(run)
    assert resumed.metrics["step"][0] == 768 + 64
    for one, two in zip(parameters(written[1]), parameters(resumed), strict=True):
        np.testing.assert_array_equal(one, two)
    assert rlgd.load(run, 1024)(np.zeros(4)) in (0, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"step": 1024', '"step": 1088'), ('"seed": 0', '"seed": 1'), ('"rows": ', '"rows": 1'), ("\n", " \n")],
)
def test_an_edited_manifest_is_noticed(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult], old: str, new: str
) -> None:
    path = copy(written, tmp_path) / "checkpoints" / "1024" / MANIFEST
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(StorageFault, match=r"manifest\.json does not match its own checksum"):
        rlgd.load(tmp_path / "run", 1024)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path, written: tuple[Path, rlgd.TrainResult]) -> None:
    path = copy(written, tmp_path) / "checkpoints" / "1024" / MANIFEST
    content = json.loads(path.read_text())
    del content["sha256"]
    content["format_version"], content["about"]["versions"]["rlgd"] = 99, "9.9"
    path.write_text(manifest.sealed(content))
    for load in (rlgd.load, rlgd.resume):
        with pytest.raises(UsageError, match=r"was written by rlgd 9\.9 in format 99; this one reads format 1\."):
            load(tmp_path / "run")


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult]
) -> None:
    run = copy(written, tmp_path)
    (run / "summary.json").unlink()
    for steps in (256, 512, 768):
        shutil.rmtree(run / "checkpoints" / str(steps))
    (run / "checkpoints" / "1024" / MANIFEST).unlink()
    (run / "checkpoints" / "1088.tmp").mkdir()
    with pytest.raises(UsageError, match=r"no complete checkpoint in .*; found 2 incomplete, ignored\."):
        rlgd.resume(run)


def test_if_all_are_damaged_each_is_named(tmp_path: Path, written: tuple[Path, rlgd.TrainResult]) -> None:
    run = copy(written, tmp_path)
    for steps in (256, 512, 768, 1024):
        flip(run / "checkpoints" / str(steps) / MANIFEST)
    with pytest.raises(StorageFault, match=r"1,024 in .* is damaged: .*; so are those of the steps 768, 512, 256"):
        rlgd.load(run)
