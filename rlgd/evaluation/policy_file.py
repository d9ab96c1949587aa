"""A policy in one file, in the layout of safetensors: a header in JSON, then the bytes of the arrays.

Nothing that is read is executed. The header describes the arrays, and has two texts of ours: ``rlgd``, what acts and on
which spaces, and ``sha256``, the digest of that text and of all arrays.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import __version__, spaces
from rlgd import hyperparameters as hp
from rlgd.agents import stored
from rlgd.agents.base.agent import Agent
from rlgd.agents.registry import name_of
from rlgd.errors import StorageFault, UsageError
from rlgd.pytrees import Actor, named_leaves, with_leaves
from rlgd.spaces import Spec
from rlgd.system import files
from rlgd.system.reading import MAX_BYTES, damage_named, parse_json, read_bytes

FORMAT_VERSION = 1
LENGTH = 8  # bytes of the header's length, little-endian; the header's length is a multiple of it too
MAX_FILE = 2**34
METADATA = "__metadata__"
# The names of the format for the types of arrays that JAX has.
DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "float16": "F16", "bfloat16": "BF16",
    "uint32": "U32", "int32": "I32", "float32": "F32", "uint64": "U64", "int64": "I64", "float64": "F64",
}  # fmt: skip


class _About(TypedDict):
    """The types in the text ``rlgd`` of the header."""

    format_version: int
    version: str
    agent: str
    hyperparameters: dict[str, Any]
    spec: dict[str, Any]


def write(path: Path, agent: Agent, spec: Spec, actor: Actor) -> None:
    """Write a policy; a policy that is already there is replaced, when the new one is complete.

    Raises:
        UsageError: if there is anything else, or the agent is not valid.
        StorageFault: if it cannot be written.
    """
    agent.validate()
    stored.use_own(agent)
    about: _About = {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "agent": name_of(type(agent)),
        "hyperparameters": hp.to_dict(agent),
        "spec": spaces.to_json(spec),
    }
    text = json.dumps(about)
    arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(actor).items()}
    data = b"".join(array.tobytes() for array in arrays.values())
    metadata = {METADATA: {"rlgd": text, "sha256": _digest(text, data)}}
    header = json.dumps(metadata | _layout(arrays)).encode()
    header += b" " * (-len(header) % LENGTH)
    try:
        files.check_regular(path)
        if path.exists() and not _is_policy(path):
            raise UsageError(f"{path} is in the way, and is no policy; name another file.")
        files.replace(path, len(header).to_bytes(LENGTH, "little") + header + data)
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {files.why(error, path.parent)}") from error


def read(path: Path, agent: type[Agent] | None, parts: dict[str, Any]) -> tuple[Agent, Spec, Actor]:
    """The agent, what it knew of its environment, and what acts, from a file that ``write`` wrote.

    Args:
        path: of the file.
        agent: the class of an agent that is not rlgd's.
        parts: parts of users by the names of their fields.

    Raises:
        UsageError: if it is no such file, or if a part is needed, or is another one.
        StorageFault: if it is damaged.
    """
    whole, spec, header, data = _opened(path, agent, parts)
    with damage_named(path):
        like = jax.eval_shape(lambda key: whole.prepared().init(spec, key).actor, jax.random.key(0))
        wanted = named_leaves(like)
        layout, found = _layout(wanted), {name: entry for name, entry in header.items() if name != METADATA}
        if differ := [name for name in {**layout, **found} if layout.get(name) != found.get(name)]:
            name = differ[0]
            raise ValueError(f"{name} is {found.get(name)}, which does not fit its agent; expected {layout.get(name)}")
        if len(data) != sum(map(_size, wanted.values())):
            raise ValueError(f"it has {len(data):,} bytes of arrays")

        def array(name: str) -> Array:
            begin, end = layout[name]["data_offsets"]
            leaf = wanted[name]
            return jnp.asarray(np.frombuffer(data[begin:end], leaf.dtype).reshape(leaf.shape))

        return whole, spec, with_leaves(like, array)


def read_agent(path: Path) -> tuple[Agent, Spec]:
    """The agent, and what it knew of its environment, as ``read`` does; JAX does not start."""
    return _opened(path, None, {})[:2]


def _opened(path: Path, agent: type[Agent] | None, parts: dict[str, Any]) -> tuple[Agent, Spec, dict[str, Any], bytes]:
    """The agent, what it knew of its environment, the header and the arrays, of which only the digest is checked."""
    header, data = _read(path)
    with damage_named(path):
        about = parse_json(header[METADATA]["rlgd"], _About)
        if header[METADATA]["sha256"] != _digest(header[METADATA]["rlgd"], data):
            raise ValueError("its SHA-256 differs")
        if about["format_version"] != FORMAT_VERSION:
            raise UsageError(
                f"{path} is a policy of rlgd {about['version']}, in a format that this version cannot read."
            )
        values = stored.with_newer(about["agent"], about["hyperparameters"])
        stored.refuse_others(stored.use_parts(about["agent"], values, agent, parts))
        return stored.read(about["agent"], values), spaces.from_json(about["spec"]), header, data


def _layout(arrays: dict[str, Any]) -> dict[str, Any]:
    """The header's entries for arrays, which may be abstract, one after the other."""
    entries, begin = {}, 0
    for name, array in arrays.items():
        end = begin + _size(array)
        kind = DTYPES[np.dtype(array.dtype).name]
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    return entries


def _size(array: Any) -> int:
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize


def _digest(text: str, data: bytes) -> str:
    return hashlib.sha256(text.encode() + data).hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a policy's file, and the bytes after it.

    Raises:
        UsageError: if it cannot be read, or is another kind of file.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; the policy of a run is read by rlgd.load({str(path)!r}).")
    try:
        content = read_bytes(path, MAX_FILE)
    except OSError as error:
        raise UsageError(f"the policy {path} cannot be read: {error.strerror}.") from error
    length = int.from_bytes(content[:LENGTH], "little")
    try:
        if length > min(MAX_BYTES, len(content)):
            raise ValueError
        header = parse_json(content[LENGTH : LENGTH + length], dict[str, Any])
        if not {"rlgd", "sha256"} <= header[METADATA].keys():
            raise ValueError
    except (ValueError, LookupError, AttributeError) as error:
        raise UsageError(f"{path} is no policy that rlgd saved, or its beginning is damaged.") from error
    return header, content[LENGTH + length :]


def _is_policy(path: Path) -> bool:
    try:
        _read(path)
    except UsageError:
        return False
    return True
