"""A policy as a file that other programs read."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlgd.errors import RlgdError, StorageFault, UsageError, unknown
from rlgd.evaluation import policy_file
from rlgd.evaluation.policy import Policy
from rlgd.exporting.description import describe
from rlgd.exporting.interface import Interface
from rlgd.system import files

Writer = Callable[[Policy, Interface, Mapping[str, Any], Mapping[str, Any]], bytes]


def _onnx(policy: Policy, interface: Interface, about: Mapping[str, Any], rules: Mapping[str, Any]) -> bytes:
    try:
        from rlgd.exporting.onnx_file import onnx_model
    except ModuleNotFoundError as error:
        raise UsageError(f"onnx needs a package: pip install 'rlgd[onnx]' ({error}).") from error
    return onnx_model(interface, about, rules)


def _stablehlo(policy: Policy, interface: Interface, about: Mapping[str, Any], rules: Mapping[str, Any]) -> bytes:
    from rlgd.exporting.stablehlo_file import stablehlo_archive

    return stablehlo_archive(interface, about)


def _safetensors(policy: Policy, interface: Interface, about: Mapping[str, Any], rules: Mapping[str, Any]) -> bytes:
    return policy_file.encoded(policy.agent, policy.spec, policy.actor)


def _tflite(policy: Policy, interface: Interface, about: Mapping[str, Any], rules: Mapping[str, Any]) -> bytes:
    from rlgd.exporting.tflite_file import tflite_model

    return tflite_model(interface)


# The formats; a file's suffix is a dot and the format's name.
FORMATS: dict[str, Writer] = {"onnx": _onnx, "stablehlo": _stablehlo, "safetensors": _safetensors, "tflite": _tflite}


def export(
    policy: Policy,
    path: str | Path,
    *,
    action_mask: bool = False,
    rules: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the greedy policy to one file for another program.

    Inside are the encoding and the normalizer of observations, the network, and what makes an action of its outputs:
    the input is the raw observation, and an output is the action as the environment receives it. ``docs/export.md``
    has the names of all inputs and outputs.

    Args:
        policy: as ``train``, ``load`` or ``Policy.load`` returned it.
        path: the file. Its suffix is the format: ``.onnx``, ``.stablehlo``, ``.safetensors`` or ``.tflite``.
        action_mask: whether the policy reads a mask of the actions that are allowed, as one more input.
        rules: for ONNX, what an operation of JAX is there, by its name: for networks of your own.
        about: what the file says of the policy beside its spaces and settings, for JSON.
        overwrite: whether a file in its place is replaced.

    Returns:
        The path.

    Raises:
        UsageError: for another suffix, a file that is in the way, or a policy that the format cannot hold.
        StorageFault: if the file cannot be written.
    """
    path = Path(path)
    name = path.suffix.removeprefix(".").lower()
    if name not in FORMATS:
        raise unknown("format of a policy", name or path.name, FORMATS)
    refuse_existing(path, overwrite)
    interface = Interface(policy, action_mask)
    write(path, encoded(policy, interface, name, {**describe(policy, interface), **(about or {})}, rules or {}))
    return path


def encoded(
    policy: Policy, interface: Interface, name: str, about: Mapping[str, Any], rules: Mapping[str, Any]
) -> bytes:
    """A policy as the bytes of a file, in one of ``FORMATS``.

    Raises:
        UsageError: if the format cannot hold it.
    """
    try:
        return FORMATS[name](policy, interface, about, rules)
    except RlgdError:
        raise
    except Exception as error:  # networks of users in programs of others: what they raise has any type
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"this policy cannot be written as {name}: {type(error).__name__}: {reason}") from error


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file, unless it is said.

    Raises:
        UsageError: if there is one.
    """
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists already; name another place, or replace it: --overwrite, overwrite=True.")


def write(path: Path, content: str | bytes) -> None:
    """Write a file of an export, in place of what was there.

    Raises:
        StorageFault: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, content)
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {files.why(error, path.parent)}") from error
