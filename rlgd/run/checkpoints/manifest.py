"""The manifest of a checkpoint: settings, counters, and the size and SHA-256 of each file."""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from rlgd.errors import StorageFault, UsageError
from rlgd.system.files import replace, unfinished, why
from rlgd.system.reading import parse_json, read_text

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST = 2**26  # bytes


class Damaged(StorageFault):
    """The files of a checkpoint are not those that were written."""


class Manifest(NamedTuple):
    """What a checkpoint says about itself.

    Attributes:
        about: the configuration of the run, and the kinds of numbers and random keys.
        counters: numbers of the loop that are not arrays, such as seconds of training.
        files: size and SHA-256 of each file by its path in the folder.
    """

    about: dict[str, Any]
    counters: dict[str, Any]
    files: dict[str, tuple[int, str]]


def update_counters(directory: Path, steps: int, counters: dict[str, Any]) -> None:
    """Replace the counters of a checkpoint; its state stays.

    Raises:
        StorageFault: if it cannot be written.
    """
    folder = directory / str(steps)
    manifest = read_manifest(directory, steps)
    try:
        replace(folder / MANIFEST, manifest_text(manifest._replace(counters=counters), steps))
    except OSError as error:
        raise StorageFault(f"{folder / MANIFEST} cannot be written: {why(error, folder)}") from error


def verified(directory: Path, steps: int) -> Manifest:
    """The manifest of a checkpoint, after comparing every file with it.

    Raises:
        Damaged: naming the file that differs.
        UsageError: if another version of rlgd wrote it in another format.
    """
    manifest = read_manifest(directory, steps)
    try:
        _check_files(directory, steps, manifest)
    except OSError as error:
        raise as_damaged(directory, steps, f"{error.filename} cannot be read: {error.strerror}") from error
    return manifest


def _check_files(directory: Path, steps: int, manifest: Manifest) -> None:
    stored = dict(files_of(directory / str(steps)))
    for name in sorted({*manifest.files, *stored}):
        if name not in stored:
            raise as_damaged(directory, steps, f"{name} is missing")
        if name not in manifest.files:
            raise as_damaged(directory, steps, f"it has an unexpected file, {name}")
        status, (size, digest) = stored[name].lstat(), manifest.files[name]
        if not stat.S_ISREG(status.st_mode):
            raise as_damaged(directory, steps, f"{name} is not a regular file")
        if status.st_size != size:
            raise as_damaged(directory, steps, f"{name} has {status.st_size:,} bytes instead of {size:,}")
        if file_digest(stored[name]) != digest:
            raise as_damaged(directory, steps, f"the SHA-256 of {name} differs")


def read_manifest(directory: Path, steps: int) -> Manifest:
    """What a checkpoint says about itself.

    Raises:
        Damaged: if it was changed since it was written.
        UsageError: if another version of rlgd wrote it in another format.
    """
    path = directory / str(steps) / MANIFEST
    try:
        text = read_text(path, MAX_MANIFEST)
        content = parse_json(text, dict[str, Any])
        whole = text == sealed({name: value for name, value in content.items() if name != "sha256"})
        step, format_version, about, counters = (
            content[name] for name in ("step", "format_version", "about", "counters")
        )
        writer = about["versions"]["rlgd"]
        files = {name: (int(size), str(digest)) for name, (size, digest) in content["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise as_damaged(directory, steps, f"{MANIFEST} cannot be read") from error
    if not whole or step != steps or not isinstance(counters, dict):
        raise as_damaged(directory, steps, f"{MANIFEST} does not match its own checksum")
    if format_version != FORMAT_VERSION:
        raise UsageError(
            f"the checkpoint {path.parent} was written by rlgd {writer} in format {format_version}; "
            f"this one reads format {FORMAT_VERSION}."
        )
    return Manifest(about, counters, files)


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """All files but the manifest, by their path in the folder; links are not followed.

    A kill while the counters were replaced leaves an unfinished manifest, which is no part of the checkpoint either.
    """
    found, manifests = [], (folder / MANIFEST, unfinished(folder / MANIFEST))
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [Path(parent) / name for name in (*names, *links)]
    return [(str(path.relative_to(folder)), path) for path in found if path not in manifests]


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_text(manifest: Manifest, steps: int) -> str:
    """The text of ``manifest.json``."""
    return sealed({"format_version": FORMAT_VERSION, "step": steps, **manifest._asdict()})


def sealed(content: dict[str, Any]) -> str:
    """The text of a manifest, with a digest of itself: no byte can change unnoticed."""
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps(content | {"sha256": digest}) + "\n"


def as_damaged(directory: Path, steps: int, what: str) -> Damaged:
    """The error for a checkpoint of ``directory``; ``what`` says what is wrong with it."""
    return Damaged(f"the checkpoint of step {steps:,} in {directory} is damaged: {what}")
