"""The manifest of a checkpoint: what it says comes back, and every change of a file is noticed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rlgd.errors import UsageError
from rlgd.run.checkpoints import manifest
from rlgd.run.checkpoints.manifest import MANIFEST, Damaged, Manifest
from rlgd.system.files import unfinished

ABOUT = {"agent": "a2c", "versions": {"rlgd": "0.1.0"}}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """A checkpoint of step 7, of two files."""
    folder = tmp_path / "7"
    (folder / "agent").mkdir(parents=True)
    (folder / "agent" / "data").write_bytes(b"weights")
    (folder / "loop").write_bytes(b"loop")
    files = {name: (path.stat().st_size, manifest.file_digest(path)) for name, path in manifest.files_of(folder)}
    (folder / MANIFEST).write_text(manifest.manifest_text(Manifest(ABOUT, {"rows": 3}, files), 7))
    return folder


def test_what_was_written_is_read(folder: Path) -> None:
    read = manifest.verified(folder.parent, 7)
    assert (read.about, read.counters) == (ABOUT, {"rows": 3})
    assert set(read.files) == {"agent/data", "loop"}
    assert manifest.read_manifest(folder.parent, 7) == read


def test_counters_can_be_replaced_and_files_stay(folder: Path) -> None:
    before = manifest.verified(folder.parent, 7)
    manifest.update_counters(folder.parent, 7, {"rows": 4})
    assert manifest.verified(folder.parent, 7) == before._replace(counters={"rows": 4})


def test_a_kill_while_counters_are_replaced_is_no_damage(folder: Path) -> None:
    before = manifest.verified(folder.parent, 7)
    unfinished(folder / MANIFEST).write_text("{")
    assert manifest.verified(folder.parent, 7) == before
    manifest.update_counters(folder.parent, 7, {"rows": 4})
    assert manifest.verified(folder.parent, 7) == before._replace(counters={"rows": 4})
    assert not unfinished(folder / MANIFEST).exists()


def changed(path: Path) -> None:
    path.write_bytes(b"weighty"[: path.stat().st_size])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def linked(path: Path) -> None:
    path.rename(path.parent.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent.parent / "elsewhere")


def accompanied(path: Path) -> None:
    path.with_name("more").write_bytes(b"")


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (Path.unlink, "agent/data is missing"),
    (changed, "the SHA-256 of agent/data differs"),
    (longer, "agent/data has 8 bytes instead of 7"),
    (linked, "agent/data is not a regular file"),
    (accompanied, "it has an unexpected file, agent/more"),
]


@pytest.mark.parametrize(("damage", "what"), DAMAGE, ids=lambda x: getattr(x, "__name__", "says"))
def test_damage_of_a_file_is_named(damage: Callable[[Path], None], what: str, folder: Path) -> None:
    damage(folder / "agent" / "data")
    with pytest.raises(Damaged, match=f"the checkpoint of step 7 in .* is damaged: {what}"):
        manifest.verified(folder.parent, 7)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"rows": 3', '"rows": 4', "does not match its own checksum"),
        ('"step": 7', '"step": 8', "does not match its own checksum"),
        ("{", "", "cannot be read"),
    ],
)
def test_an_edited_manifest_is_damage(old: str, new: str, what: str, folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace(old, new, 1))
    with pytest.raises(Damaged, match=what):
        manifest.read_manifest(folder.parent, 7)


def test_another_format_names_its_writer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "FORMAT_VERSION", 2)
    with pytest.raises(UsageError, match=r"was written by rlgd 0\.1\.0 in format 1; this one reads format 2"):
        manifest.read_manifest(folder.parent, 7)
