"""Sinks by name: ours, those of installed packages, and what a user names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd import plugins
from rlgd.cli import main
from rlgd.errors import UsageError
from rlgd.run.sinks import registry
from rlgd.run.sinks.csv_file import CSV
from tests.plugin.rlgd_plugin.sinks import Diary
from tests.support.small_runs import FLAGS, train

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "tests" / "plugin"
NAME = "rlgd_plugin.sinks:Diary"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plugins, "_used", {})
    monkeypatch.setattr(plugins, "_trusted", set())
    yield
    plugins._installed.cache_clear()


def test_a_sink_is_given_by_name_class_or_object() -> None:
    diary = Diary()
    csv, made, same = registry.made(registry.parts_of(["csv", Diary, diary]))
    assert (type(csv), type(made)) == (CSV, Diary)
    assert same is diary
    assert made is not diary
    assert [type(sink) for sink in registry.made(registry.parts_of("csv"))] == [CSV]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cvs", "unknown sink 'cvs'; did you mean 'csv'?"),
        ("console", "the sink 'console' is part of every run"),
        ("json:loads", r"expected a class with one of begin, write, evaluation, checkpoint, close"),
        ("no_such_module:Sink", "cannot be imported"),
        (object(), "expected a class with one of begin"),
    ],
)
def test_what_is_no_sink_is_refused_before_anything_is_written(given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        train(tmp_path / "run", sinks=[given])
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = registry.Shipped("rlgd.run.sinks.no_such_service", "Run", "service", "")
    monkeypatch.setitem(registry.SINKS, "service", shipped)
    with pytest.raises(UsageError, match=r"the sink 'service' needs a package .*: pip install 'rlgd\[service\]'"):
        registry.parts_of(["service"])


def test_a_class_that_makes_no_object_is_refused(tmp_path: Path) -> None:
    class Picky(Diary):
        def __init__(self, name: str) -> None:
            pass

    with pytest.raises(UsageError, match=r"Picky cannot be made: TypeError: .* missing 1 required"):
        train(tmp_path / "run", sinks=[Picky])
    assert not (tmp_path / "run").exists()


def test_the_document_shows_this_sink() -> None:
    code = (PLUGIN / "rlgd_plugin" / "sinks.py").read_text()
    assert f"```python\n{code}```" in (ROOT / "docs" / "extending.md").read_text()


def test_the_sink_of_the_document_writes_and_stops(tmp_path: Path) -> None:
    result = train(tmp_path, eval_every=256, eval_episodes=1, sinks=[Diary()])  # one episode: no two differ
    assert (result.reason, result.steps) == ("sink", 256)
    first, *means, last = (tmp_path / "diary.txt").read_text().splitlines()
    assert first == "A2C begins in CartPole-v1"
    assert all(mean.startswith("mean return ") for mean in means)
    assert last == "ends by sink"


def test_a_sink_is_named_on_the_command_line_and_the_flag_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    flags = [*FLAGS, "--total-timesteps", "1024", "--run-dir", str(tmp_path)]
    assert main.main(["train", *flags, "--sink", "csv", "--sink", NAME, "--json", "--eval-episodes", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "total_timesteps"
    assert (tmp_path / "metrics.csv").exists()
    assert len((tmp_path / "diary.txt").read_text().splitlines()) == 3
    longer = ["--total-timesteps", "2048", "--eval-every", "512", "--quiet"]
    assert main.main(["resume", str(tmp_path), *longer, "--sink", NAME]) == 0
    assert "stopped by --sink: every episode had the same return" in capsys.readouterr().out
    assert (tmp_path / "diary.txt").read_text().splitlines()[-1] == "ends by sink"
    assert rlgd.load(tmp_path).spec is not None


def test_a_file_of_flags_names_a_sink_but_imports_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    file = tmp_path / "flags.toml"
    flags = [*FLAGS, "--total-timesteps", "64", "--run-dir", str(tmp_path / "run"), "--config", str(file)]
    file.write_text(f'sink = ["{NAME}"]\n')
    assert main.main(["train", *flags]) == 2
    assert "a file alone imports no code; name it yourself: --trust rlgd_plugin" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    file.write_text('sink = "csv"\n')
    assert main.main(["train", *flags]) == 0
    assert (tmp_path / "run" / "metrics.csv").exists()


def test_installed_sinks_are_listed_with_their_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "rlgd_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rlgd-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rlgd.sinks]\ndiary = {NAME}\ncsv = {NAME}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(PLUGIN))
    plugins._installed.cache_clear()
    assert main.main(["list", "sinks"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert ["diary", "--sink", "diary", NAME, "of", "rlgd-plugin", "1.0"] in rows
    assert "the sink 'csv' of rlgd-plugin is left out: the name is taken" in err
    (diary,) = registry.made(registry.parts_of(["diary"]))
    assert type(diary).__name__ == "Diary"
