"""The pages of help as an 80-column terminal shows them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlgd import envs
from rlgd.agents import REGISTRY, make_agent
from rlgd.cli import help_page, main
from rlgd.cli.commands import COMMANDS
from rlgd.cli.options import flags_of
from rlgd.cli.train import Options
from rlgd.hyperparameters import flat_fields
from rlgd.run import RunConfig, RunSettings, config_file
from rlgd.run.cadence import cadence

LINES, COLUMNS = 60, 80
PAGES = [
    *COMMANDS,
    *(f"{command} {agent}" for command in ("train", "tune") for agent in REGISTRY),
    "train ppo --env CartPole-v1",
    "resume run",
    "eval run",
    "study momentum",
    "check-env CartPole-v1",
]
GROUPS = ("run", "environment", "agent", "ascent", "network", "evaluation", "output")


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


def shown(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main(command.split()) == 0
    return capsys.readouterr().out


def make_run(folder: Path) -> None:
    config = RunConfig(make_agent("a2c", gamma=0.75), envs.make("CartPole-v1"))
    (folder / "run").mkdir()
    config_file.write_config(folder / "run", config, cadence(config), [])


@pytest.mark.parametrize("command", PAGES)
def test_a_page_fits_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = shown(f"{command} --help", capsys)
    lines = page.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert lines[0].startswith(f"usage: rlgd {command.partition(' --')[0]}")
    assert "None)" not in page
    assert "required" not in page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_a_heading_that_is_shown(command: str) -> None:
    options = COMMANDS[command].load().Options()
    assert {help_page.group_of(flag) for flag in flags_of(options).values() if not flag.is_positional} <= {
        *help_page.GROUPS
    }


def test_a_run_shows_its_own_values(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = shown("resume run --help-all", capsys)
    assert "in [0, 1] (default: 0.75)" in " ".join(page.split())
    assert "--seed" not in page  # a resumed run cannot change it


def test_the_most_used_flags_come_first_and_the_others_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    page = shown("train ppo --help", capsys)
    first, _, rest = page.partition("\nrun: ")
    used = re.findall(r"^  --([a-z-]+)", first, re.MULTILINE)
    assert len(used) == 10
    assert used[:3] == ["env", "total-timesteps", "seed"]
    assert {"learning-rate", "optimizer", "gamma"} <= {*used}
    assert re.findall(r"^(\w+):", f"run: {rest}", re.MULTILINE) == list(GROUPS)
    assert page.splitlines()[0] == "usage: rlgd train ppo --env ID [flags]"


@pytest.mark.parametrize("agent", REGISTRY)
def test_help_all_shows_every_setting_once(agent: str, capsys: pytest.CaptureFixture[str]) -> None:
    short, page = shown(f"train {agent} --help", capsys), shown(f"train {agent} --help-all", capsys)
    listed = re.findall(r"^  --(?:\[no-\])?([a-z0-9-]+)", page, re.MULTILINE)
    fields = flat_fields(make_agent(agent)) | flat_fields(RunSettings())
    names = {(flat.field.metadata.get("flag") or name).replace("_", "-") for name, flat in fields.items()}
    assert len({*listed}) == len(listed)
    assert names < {*listed}
    assert short.endswith(f"`rlgd train {agent} --help-all` shows all {len(listed)} flags.\n")
    assert {*re.findall(r"--([a-z0-9-]+)", short)} >= {*listed}


def test_every_flag_has_a_group() -> None:
    flags = flags_of(Options.defaults({"agent": "ppo"}))
    for name in flags:
        assert flags[name].is_positional or help_page.group_of(flags[name]) in help_page.GROUPS
    assert {*help_page.OF_FLAG} <= {name for agent in REGISTRY for name in flags_of(Options.defaults({"agent": agent}))}


def test_what_tunes_says_how_a_search_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert "log:1e-4,1e-2" in shown("tune ppo --help", capsys)


@pytest.mark.parametrize(("columns", "widest"), [("20", help_page.NARROWEST), ("200", help_page.WIDEST)])
def test_other_terminals(
    columns: str, widest: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = shown("eval --help", capsys).splitlines()
    assert widest - 12 < max(map(len, lines)) <= widest


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    page = shown("--help", capsys)
    named = [line.strip() for line in page.splitlines() if re.match(r"  \S", line)]
    for line, (name, command) in zip(named, COMMANDS.items(), strict=False):
        assert line.startswith(f"{name} {command.arguments}".strip())
    assert len(named) > len(COMMANDS)  # and how to begin
    assert len(page.splitlines()) <= LINES
    assert max(map(len, page.splitlines())) <= COLUMNS


def modules_after(code: str) -> set[str]:
    ending = "; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}{ending}"], capture_output=True, text=True, check=True
    )
    return {*done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("call", ["", "; main(['--help'])"])
def test_help_imports_neither_jax_nor_tyro(call: str) -> None:
    loaded = modules_after(f"from rlgd.cli.main import main{call}")
    assert "rlgd" in loaded
    assert not {"jax", "numpy", "gymnasium", "tyro"} & loaded


@pytest.mark.parametrize("argv", [["train", "--help"], ["list", "agents"], ["study", "list"]])
def test_what_needs_no_jax_does_not_import_it(argv: list[str]) -> None:
    assert not {"jax", "gymnasium"} & modules_after(f"from rlgd.cli.main import main; main({argv})")
