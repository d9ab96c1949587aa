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
from rlgd.system.reading import MAX_BYTES, damage_named, parse_json, read_bytes, read_text

FORMAT_VERSION = 1
LENGTH = 8  # bytes of the header's length, little-endian; the header's length is a multiple of it too
MAX_FILE = 2**34
METADATA = "__metadata__"
ARCHITECTURE = "architecture.json"
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


class _Entry(TypedDict):
    """The types of an array in the header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def write(path: Path, agent: Agent, spec: Spec, actor: Actor) -> None:
    """Write a policy; a policy that is already there is replaced, when the new one is complete.

    Raises:
        UsageError: if there is anything else, or the agent is not valid.
        StorageFault: if it cannot be written.
    """
    content = encoded(agent, spec, actor)
    try:
        files.check_regular(path)
        if path.exists() and not _is_policy(path):
            raise UsageError(f"{path} is in the way, and is no policy; name another file.")
        files.replace(path, content)
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {files.why(error, path.parent)}") from error


def encoded(agent: Agent, spec: Spec, actor: Actor) -> bytes:
    """A policy as the bytes of its file.

    Raises:
        UsageError: if the agent is not valid.
    """
    text = json.dumps(_about(agent, spec))
    arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(actor).items()}
    data = b"".join(array.tobytes() for array in arrays.values())
    metadata = {METADATA: {"rlgd": text, "sha256": _digest(text, data)}}
    header = json.dumps(metadata | _layout(arrays)).encode()
    header += b" " * (-len(header) % LENGTH)
    return len(header).to_bytes(LENGTH, "little") + header + data


def _about(agent: Agent, spec: Spec) -> _About:
    agent.validate()
    stored.use_own(agent)
    return {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "agent": name_of(type(agent)),
        "hyperparameters": hp.to_dict(agent),
        "spec": spaces.to_json(spec),
    }


def architecture(agent: Agent, spec: Spec, actor: Actor) -> dict[str, Any]:
    """What acts and on which spaces, with the name, the type and the shape of each array, for JSON."""
    entries = _layout(named_leaves(actor)).items()
    arrays = {name: {"dtype": entry["dtype"], "shape": entry["shape"]} for name, entry in entries}
    return {**_about(agent, spec), "arrays": arrays}


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
    text, header, data = _own(path)
    with damage_named(path):
        whole, spec = _described(path, text, agent, parts)
        return whole, spec, _actor(whole, spec, header, data)


def read_agent(path: Path) -> tuple[Agent, Spec]:
    """The agent, and what it knew of its environment, as ``read`` does; JAX does not start."""
    text, _, _ = _own(path)
    with damage_named(path):
        return _described(path, text, None, {})


def read_arrays(
    path: Path, description: Path | None, agent: type[Agent] | None, parts: dict[str, Any]
) -> tuple[Agent, Spec, Actor]:
    """As ``read``, from a file of arrays that any program wrote in the layout of safetensors.

    Args:
        path: of the file.
        description: a file with what ``architecture`` gives; None: the header of the arrays has it, or the file
            ``architecture.json`` beside them.
        agent: the class of an agent that is not rlgd's.
        parts: parts of users by the names of their fields.

    Raises:
        UsageError, StorageFault: as ``read`` does.
    """
    header, data = _read(path)
    text = _metadata(header).get("rlgd") if description is None else None
    if text is None:
        beside = description or path.with_name(ARCHITECTURE)
        try:
            text = read_text(beside)
        except OSError as error:
            raise UsageError(f"{path} has arrays alone, and {beside} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise StorageFault(f"{beside} is damaged: {error}.") from error
    with damage_named(path):
        whole, spec = _described(path, text, agent, parts)
        return whole, spec, _actor(whole, spec, header, data)


def _own(path: Path) -> tuple[str, dict[str, Any], bytes]:
    """The description, the header and the arrays of a file that ``write`` wrote, with their digest checked."""
    header, data = _read(path)
    metadata = _metadata(header)
    if not {"rlgd", "sha256"} <= metadata.keys():
        raise UsageError(
            f"{path} is no policy that rlgd saved; Policy.from_safetensors reads arrays of other programs."
        )
    with damage_named(path):
        if metadata["sha256"] != _digest(metadata["rlgd"], data):
            raise ValueError("its SHA-256 differs")
    return metadata["rlgd"], header, data


def _described(path: Path, text: str, agent: type[Agent] | None, parts: dict[str, Any]) -> tuple[Agent, Spec]:
    """The agent and the spaces that a description in JSON says."""
    about = parse_json(text, _About)
    if about["format_version"] != FORMAT_VERSION:
        raise UsageError(f"{path} is a policy of rlgd {about['version']}, in a format that this version cannot read.")
    values = stored.with_newer(about["agent"], about["hyperparameters"])
    stored.refuse_others(stored.use_parts(about["agent"], values, agent, parts))
    return stored.read(about["agent"], values), spaces.from_json(about["spec"])


def _actor(whole: Agent, spec: Spec, header: dict[str, Any], data: bytes) -> Actor:
    """What acts, from the arrays of a file, if they are those of the agent."""
    like = jax.eval_shape(lambda key: whole.prepared().init(spec, key).actor, jax.random.key(0))
    wanted = named_leaves(like)
    expected = _layout(wanted)
    found = {name: parse_json(json.dumps(entry), _Entry) for name, entry in header.items() if name != METADATA}
    for name in {**expected, **found}:
        known, given = (
            {k: e[k] for k in ("dtype", "shape")} if (e := of.get(name)) else None for of in (expected, found)
        )
        if known != given:
            raise ValueError(f"{name} is {given}, which does not fit its agent; expected {known}")
    if len(data) != sum(map(_size, wanted.values())):
        raise ValueError(f"it has {len(data):,} bytes of arrays")

    place = 0
    for begin, end, name in sorted((*entry["data_offsets"], name) for name, entry in found.items()):
        if begin != place or end - begin != _size(wanted[name]):
            raise ValueError(f"{name} is not where the array before it ends")
        place = end
    jax.eval_shape(lambda: spaces.blank(spec.obs))  # a type that there is not is named here

    def array(name: str) -> Array:
        leaf, (begin, end) = wanted[name], found[name]["data_offsets"]
        return jnp.asarray(np.frombuffer(data[begin:end], leaf.dtype).reshape(leaf.shape))

    return with_leaves(like, array)


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
    except (ValueError, LookupError, AttributeError) as error:
        raise UsageError(
            f"{path} is no policy that rlgd saved, nor any file of safetensors, or its beginning is damaged."
        ) from error
    return header, content[LENGTH + length :]


def _metadata(header: dict[str, Any]) -> dict[str, Any]:
    """The texts in a header; empty if there are none."""
    found = header.get(METADATA)
    return found if isinstance(found, dict) else {}


def _is_policy(path: Path) -> bool:
    try:
        return {"rlgd", "sha256"} <= _metadata(_read(path)[0]).keys()
    except UsageError:
        return False
