"""A policy as a compiled program of JAX: StableHLO, with a description, in one file.

The file is a ZIP archive of two members, which any tool opens: ``about.json``, and ``program``, what
``jax.export.Exported.serialize`` gives. JAX promises to read a program six months after it was written.
"""

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlgd import spaces
from rlgd.errors import StorageFault, UsageError
from rlgd.exporting.description import strict_json
from rlgd.exporting.interface import Interface
from rlgd.system.reading import DAMAGE, checked, parse_json, read_bytes

PLATFORMS = ("cpu", "cuda", "tpu")
ABOUT, PROGRAM = "about.json", "program"
MAX_FILE = 2**32


def stablehlo_archive(interface: Interface, about: Mapping[str, Any]) -> bytes:
    """A policy as the bytes of an archive, for a batch of any size, for CPU, CUDA and TPU.

    Args:
        interface: the policy.
        about: what the archive says of it, for JSON.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = {
        port.name: jax.ShapeDtypeStruct((batch, *port.shape), interface.stored_dtype(port)) for port in interface.inputs
    }
    program = bytes(jax.export.export(jax.jit(interface), platforms=PLATFORMS)(shapes).serialize())
    described = {**about, "sha256": hashlib.sha256(program).hexdigest()}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in ((ABOUT, strict_json(described, indent=2).encode()), (PROGRAM, program)):
            archive.writestr(zipfile.ZipInfo(name), member)
    return content.getvalue()


class PortContent(TypedDict):
    """The types of an input or an output in ``about.json``."""

    name: str
    shape: list[int]
    dtype: str


class AboutContent(TypedDict):
    """The types in ``about.json`` that are used here."""

    inputs: list[PortContent]
    outputs: list[PortContent]
    sha256: str


class Program(NamedTuple):
    """A policy that was exported, ready to call.

    Attributes:
        about: what its file says of it: inputs and outputs, the spaces, the evaluation, the versions.
        exported: what JAX read.
        compiled: the same, compiled once for each size of a batch.
    """

    about: dict[str, Any]
    exported: Any
    compiled: Any

    def __call__(self, arrays: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """The outputs for the inputs, each ``[N, ...]``, by the names that ``about`` has.

        Raises:
            UsageError: if an input is missing, or has another shape.
        """
        ports = {port["name"]: port for port in self.about["inputs"]}
        if arrays.keys() != ports.keys():
            raise UsageError(f"the inputs are {', '.join(sorted(arrays))}; expected {', '.join(sorted(ports))}.")
        given = {}
        for name, port in ports.items():
            given[name] = spaces.as_stored(name, arrays[name], _canonical(port["dtype"]))
            if given[name].ndim == 0 or given[name].shape[1:] != tuple(port["shape"]) or not len(given[name]):
                raise UsageError(
                    f"{name} has shape {given[name].shape}; expected {('N', *port['shape'])}, N at least 1."
                )
        if len(sizes := {len(array) for array in given.values()}) > 1:
            raise UsageError(f"the inputs are batches of {' and '.join(map(str, sorted(sizes)))}.")
        outputs = self.compiled(given)
        return {port["name"]: np.asarray(outputs[port["name"]]).astype(port["dtype"]) for port in self.about["outputs"]}


def load_stablehlo(path: str | Path) -> Program:
    """A policy that ``rlgd.export`` wrote as StableHLO.

    The program in the file is compiled and runs in this process: read files of people that you trust only. Python code
    is never in it.

    Raises:
        UsageError: if there is no such file, or it is of another kind.
        StorageFault: if it is damaged, or this version of JAX cannot read it.
    """
    path = Path(path)
    members = _members(path)
    try:
        about = parse_json(members[ABOUT], dict[str, Any])
        known = checked(about, AboutContent)
        if known["sha256"] != hashlib.sha256(members[PROGRAM]).hexdigest():
            raise ValueError("its SHA-256 differs")
        exported = jax.export.deserialize(bytearray(members[PROGRAM]))
        _check_ports(known, exported)
    except (*DAMAGE, struct.error, AssertionError) as error:
        raise StorageFault(f"{path} is damaged, or another version of JAX wrote it: {error}.") from error
    return Program(about, exported, jax.jit(exported.call))


def _check_ports(about: AboutContent, exported: Any) -> None:
    """Check that the description is that of the program.

    Raises:
        ValueError: naming what differs.
    """
    (inputs,), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    for ports, avals in ((about["inputs"], inputs), (about["outputs"], outputs)):
        named = {port["name"]: (tuple(port["shape"]), _canonical(port["dtype"])) for port in ports}
        if named != {name: (aval.shape[1:], aval.dtype) for name, aval in avals.items()}:
            raise ValueError(f"{ABOUT} describes another program")


def _canonical(dtype: str) -> Any:
    return jax.dtypes.canonicalize_dtype(dtype)


def _members(path: Path) -> dict[str, bytes]:
    """The members of an archive, none of which is compressed: they are no larger than the file."""
    try:
        content = read_bytes(path, MAX_FILE)
    except OSError as error:
        raise UsageError(f"the policy {path} cannot be read: {error.strerror}.") from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {name: archive.getinfo(name) for name in (ABOUT, PROGRAM)}
            if any(member.compress_type != zipfile.ZIP_STORED for member in found.values()):
                raise zipfile.BadZipFile
            return {name: archive.read(member) for name, member in found.items()}
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise UsageError(f"{path} is no policy that rlgd.export wrote as StableHLO, or it is damaged.") from error
