"""Trained policies for other programs: ONNX, StableHLO, safetensors, TensorFlow Lite."""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.exporting.api import FORMATS as FORMATS
    from rlgd.exporting.api import export as export
    from rlgd.exporting.folder import export_run as export_run
    from rlgd.exporting.graph import Graph as Graph
    from rlgd.exporting.graph import Value as Value
    from rlgd.exporting.rules import each_number as each_number
    from rlgd.exporting.stablehlo_file import Program as Program
    from rlgd.exporting.stablehlo_file import load_stablehlo as load_stablehlo

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.exporting.api": (
            "FORMATS",
            "export",
        ),
        "rlgd.exporting.folder": ("export_run",),
        "rlgd.exporting.graph": (
            "Graph",
            "Value",
        ),
        "rlgd.exporting.rules": ("each_number",),
        "rlgd.exporting.stablehlo_file": (
            "Program",
            "load_stablehlo",
        ),
    },
)
