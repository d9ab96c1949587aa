"""``rlgd export``."""

import dataclasses
import json

from rlgd.cli.options import CommandOptions, flag, positional
from rlgd.cli.run_selection import newest

MASKS = {"yes": True, "no": False}


@dataclasses.dataclass(frozen=True)
class Options(CommandOptions):
    """Write a trained policy for other programs, with a model card.

    The input is the raw observation, the output the action as the environment receives it: `docs/export.md`.
    """

    directory: str = positional("RUN", "a directory that `rlgd train` wrote", newest)
    to: tuple[str, ...] = flag(("onnx",), "one format or several: onnx, stablehlo, safetensors, tflite", "FORMAT ...")
    out: str | None = flag(None, "the folder; the default is export/ in the run's directory", "DIR")
    checkpoint: str | None = flag(None, "best, latest or a step; the default is the run's result", "best|latest|STEP")
    action_mask: str | None = flag(
        None, "whether the policy reads which actions are allowed; the default is as the environment does", "yes|no"
    )
    overwrite: bool = flag(False, "replace the files of an earlier export")
    quiet: bool = flag(False, "print nothing but the folder")
    json: bool = flag(False, "print one JSON document on standard output, and nothing else there")
    debug: bool = flag(False, "show the traceback of a failure")
    trust: str | None = flag(None, "import parts of this package that files name", "PACKAGE")


def run(options: Options) -> int:
    """Export, and say what was written."""
    from rlgd.errors import unknown
    from rlgd.exporting.folder import export_run, files_of

    if options.action_mask is not None and options.action_mask not in MASKS:
        raise unknown("action_mask", options.action_mask, MASKS)
    folder = export_run(
        options.directory,
        options.out,
        to=options.to,
        checkpoint=options.checkpoint,
        action_mask=None if options.action_mask is None else MASKS[options.action_mask],
        overwrite=options.overwrite,
    )
    written = sorted(files_of(folder))
    if options.json:
        print(json.dumps({"folder": str(folder), "files": [path.name for path in written]}))
    elif options.quiet:
        print(folder)
    else:
        for path in written:
            print(f"{path}  {path.stat().st_size:,} bytes")
    return 0
