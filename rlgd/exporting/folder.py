"""The folder of an export: a run's policy in several formats, and its model card."""

import contextlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from rlgd.envs import DeviceEnv, Env
from rlgd.errors import EnvironmentFault, UsageError, unknown
from rlgd.evaluation import policy_file
from rlgd.exporting.api import FORMATS, export, write
from rlgd.exporting.card import model_card
from rlgd.exporting.description import describe, describe_run
from rlgd.exporting.interface import Interface
from rlgd.run import config_file
from rlgd.run.loading import load
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
    directory, formats = Path(run), dict.fromkeys(to)
    for name in formats:
        if name not in FORMATS:
            raise unknown("format of a policy", name, FORMATS)
    if not formats:
        raise UsageError(f"name at least one format: {', '.join(FORMATS)}.")
    policy = load(directory, checkpoint, **parts)
    folder = directory / "export" if out is None else Path(out)
    masked = _gives_masks(directory) if action_mask is None else action_mask
    about = {**describe_run(directory), "is_result": checkpoint is None}
    files = {name: f"{STEM}.{name}" for name in formats}
    for name in files.values():
        export(policy, folder / name, action_mask=masked, rules=rules, about=about, overwrite=overwrite)
    if "safetensors" in files:
        described = policy_file.architecture(policy.agent, policy.spec, policy.actor)
        write(folder / policy_file.ARCHITECTURE, json.dumps(described, indent=2) + "\n", overwrite)
    whole = describe(policy, Interface(policy, masked)) | about
    write(folder / CARD, model_card(whole, files), overwrite)
    return folder


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
