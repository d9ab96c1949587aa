"""The folder of an export: a run's policy in several formats, and its model card."""

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from rlgd.envs import DeviceEnv, Env
from rlgd.errors import EnvironmentFault, UsageError, unknown
from rlgd.evaluation import policy_file
from rlgd.evaluation.policy import Policy
from rlgd.exporting.api import FORMATS, encoded, refuse_existing, write
from rlgd.exporting.card import is_card, model_card
from rlgd.exporting.description import describe, describe_run, strict_json
from rlgd.exporting.interface import Interface
from rlgd.run import config_file
from rlgd.run.loading import find_checkpoint, load
from rlgd.spaces import mask_size

CARD, STEM = "README.md", "policy"


def export_run(
    run: str | Path,
    out: str | Path | None = None,
    *,
    to: Collection[str] = ("onnx",),
    checkpoint: str | int | None = None,
    action_mask: bool | None = None,
    rules: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **parts: Any,
) -> Path:
    """Write a run's policy for other programs into a folder, with a model card.

    Args:
        run: a directory that ``train`` wrote.
        out: the folder; None: ``export`` in the run's directory.
        to: the formats, of ``rlgd.exporting.FORMATS``.
        checkpoint: as for ``load``.
        action_mask: whether the policy reads which actions are allowed; None: if the environment says so.
        rules: as for ``export``.
        overwrite: whether files in the folder are replaced.
        parts: the agent and the networks, where they are not rlgd's, as for ``load``.

    Returns:
        The folder.

    Raises:
        UsageError: for an unknown format, or as ``load`` and ``export`` do.
        StorageFault: if a file cannot be written, or the run is damaged.
    """
    directory, formats = Path(run), tuple(dict.fromkeys(to))
    for name in formats:
        if name not in FORMATS:
            raise unknown("format of a policy", name, FORMATS)
    if not formats or out == "":
        raise UsageError(f"name a folder, and at least one format: {', '.join(FORMATS)}.")
    folder = directory / "export" if out is None else Path(out)
    policy = load(directory, checkpoint, **parts)
    contents = _contents(policy, directory, formats, checkpoint, action_mask, rules or {})
    for path in files_of(folder):
        refuse_existing(path, overwrite)
    for name, content in contents.items():  # all of them are made before one is written
        write(folder / name, content)
    for path in files_of(folder):
        if path.name not in contents:
            path.unlink()  # of an earlier export, which the card does not describe any more
    return folder


def _contents(
    policy: Policy,
    directory: Path,
    formats: tuple[str, ...],
    checkpoint: str | int | None,
    action_mask: bool | None,
    rules: Mapping[str, Any],
) -> dict[str, str | bytes]:
    """The files of an export by their names, the card last."""
    interface = Interface(policy, _gives_masks(directory) if action_mask is None else action_mask)
    result = find_checkpoint(directory, None)[1].steps
    step = result if checkpoint is None else find_checkpoint(directory, checkpoint)[1].steps
    run = {**describe_run(directory), "step": step, "is_result": step == result}
    about = describe(policy, interface) | run
    contents: dict[str, str | bytes] = {
        f"{STEM}.{name}": encoded(policy, interface, name, about, rules) for name in formats
    }
    if "safetensors" in formats:
        described = policy_file.architecture(policy.agent, policy.spec, policy.actor)
        contents[policy_file.ARCHITECTURE] = strict_json(described, indent=2) + "\n"
    contents[CARD] = model_card(about, {name: f"{STEM}.{name}" for name in formats})
    return contents


def files_of(folder: Path) -> list[Path]:
    """The files of an export that are in a folder.

    Raises:
        UsageError: if its README is somebody else's.
    """
    names = (*(f"{STEM}.{name}" for name in FORMATS), policy_file.ARCHITECTURE, CARD)
    found = [folder / name for name in names if os.path.lexists(folder / name)]
    if folder / CARD in found and not is_card(folder / CARD):
        raise UsageError(f"{folder / CARD} is no card of an export, and is not replaced; name another folder: --out.")
    return found


def _gives_masks(directory: Path) -> bool:
    """Whether a run's environment says which actions are allowed.

    Raises:
        UsageError: if it could, and cannot be asked.
    """
    _, spec = config_file.read_agent(directory)
    if mask_size(spec.action) is None:
        return False
    try:
        return _masks_of(config_file.read(directory, None).env)
    except (UsageError, EnvironmentFault) as error:
        raise UsageError(
            f"whether the environment says which actions are allowed is unknown; give action_mask ({error})"
        ) from error


def _masks_of(env: Env) -> bool:
    if isinstance(env, DeviceEnv):
        return jax.eval_shape(lambda key: env.action_mask(env.reset(key, 1)[0]), jax.random.key(0)) is not None
    with contextlib.closing(env.open(1)) as vector:
        vector.reset(0)
        return vector.action_mask is not None
