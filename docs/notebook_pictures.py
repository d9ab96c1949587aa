"""Run the notebooks, and keep the last figure of each beside the examples.

    .venv/bin/python docs/notebook_pictures.py [NAME ...]

writes examples/pictures/NAME.png.
"""

import base64
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def draw(path: Path) -> None:
    """Run one notebook and keep its last figure."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": place}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    figures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    (EXAMPLES / "pictures" / f"{path.stem}.png").write_bytes(base64.b64decode(figures[-1]))


if __name__ == "__main__":
    notebooks = EXAMPLES / "notebooks"
    for each in [notebooks / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(notebooks.glob("*.ipynb")):
        draw(each)
