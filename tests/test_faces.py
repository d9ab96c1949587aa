"""Names of a package that are imported when they are used."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

FACE = """
from rlgd.faces import lazy
__getattr__, __dir__, __all__ = lazy(__name__, {"small_face.home": ("answer",)}, ("part",))
"""


@pytest.fixture(name="face")
def _face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package with such a face; its modules are forgotten after the test."""
    folder = tmp_path / "small_face"
    folder.mkdir()
    (folder / "__init__.py").write_text(FACE)
    (folder / "home.py").write_text("answer = object()\nhidden = 1\n")
    (folder / "part.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("small_face", "small_face.home", "small_face.part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("small_face")


def test_a_name_imports_its_home_when_it_is_used(face: ModuleType) -> None:
    assert "small_face.home" not in sys.modules
    answer = face.answer
    assert answer is sys.modules["small_face.home"].answer
    assert vars(face)["answer"] is answer  # the next use finds it at once
    assert "small_face.part" not in sys.modules


def test_a_submodule_is_imported_when_it_is_used(face: ModuleType) -> None:
    assert face.part is sys.modules["small_face.part"]
    assert "small_face.home" not in sys.modules


def test_public_names_are_listed_before_they_are_used(face: ModuleType) -> None:
    assert face.__all__ == ["answer", "part"]
    listed = dir(face)
    assert {"answer", "part", "__name__"} <= {*listed}
    assert "lazy" not in listed


def test_an_unknown_name_is_an_attribute_error(face: ModuleType) -> None:
    with pytest.raises(AttributeError, match=r"^module 'small_face' has no attribute 'hidden'$"):
        _ = face.hidden
