"""A folder of checkpoints: complete ones, what kills left, and the newest that is not damaged."""

from pathlib import Path

import pytest

from rlgd.errors import StorageFault
from rlgd.run.checkpoints import folder, manifest
from rlgd.run.checkpoints.manifest import MANIFEST, Manifest


def checkpoint(directory: Path, steps: int) -> None:
    """A checkpoint without arrays."""
    (directory / str(steps)).mkdir(parents=True)
    content = Manifest({"versions": {"rlgd": "0.1.0"}}, {"rows": steps}, {})
    (directory / str(steps) / MANIFEST).write_text(manifest.manifest_text(content, steps))


@pytest.fixture(name="saved")
def _saved(tmp_path: Path) -> Path:
    """Checkpoints of three steps, and other things."""
    for steps in (8, 16, 128):
        checkpoint(tmp_path, steps)
    for name in ("256", "64.tmp", "32.old.tmp", "007", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "512").write_text("a file")
    return tmp_path


def test_complete_checkpoints_are_found_in_order(saved: Path) -> None:
    assert folder.all_steps(saved) == [8, 16, 128]
    assert folder.latest_step(saved) == 128
    assert folder.all_steps(saved / "nowhere") == []
    assert folder.latest_step(saved / "nowhere") is None


def test_what_is_incomplete_is_known(saved: Path) -> None:
    assert [path.name for path in folder.incomplete(saved)] == ["007", "256", "32.old.tmp", "64.tmp"]
    assert folder.incomplete(saved / "nowhere") == []


def test_what_kills_left_is_removed_and_nothing_else(saved: Path) -> None:
    folder.remove_unfinished(saved)
    assert {path.name for path in saved.iterdir()} == {"8", "16", "128", "256", "007", "notes", "512"}


def test_only_some_are_kept(saved: Path) -> None:
    folder.keep_only(saved, [16, 99])
    assert folder.all_steps(saved) == [16]
    assert (saved / "notes").exists()


def test_a_link_is_removed_and_its_target_stays(tmp_path: Path) -> None:
    checkpoint(tmp_path / "elsewhere", 8)
    (tmp_path / "8").symlink_to(tmp_path / "elsewhere" / "8")
    folder.remove(tmp_path / "8")
    assert not (tmp_path / "8").exists()
    assert folder.all_steps(tmp_path / "elsewhere") == [8]
    folder.remove(tmp_path / "8")  # nothing to do


def test_the_newest_whole_one_is_taken_and_others_are_named(saved: Path) -> None:
    (saved / "128" / "extra").write_text("mine")
    found = folder.newest(saved)
    assert found is not None
    assert (found.steps, found.manifest.counters) == (16, {"rows": 16})
    lost, damaged = found.skipped
    assert "of step 256" in lost
    assert "manifest.json is missing" in lost
    assert "of step 128" in damaged


def test_without_a_whole_one_it_depends_on_whether_there_was_one(tmp_path: Path) -> None:
    assert folder.newest(tmp_path) is None
    (tmp_path / "8").mkdir()  # a kill while it was removed
    assert folder.newest(tmp_path) is None
    checkpoint(tmp_path, 16)
    (tmp_path / "16" / "extra").write_text("mine")
    with pytest.raises(StorageFault, match=r"of step 16 .* is damaged: .*; so are those of the steps 8"):
        folder.newest(tmp_path)
