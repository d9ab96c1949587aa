"""Parts of the site that Sphinx has not: formulas that need no script, and tables that are read from the code."""

import html
import importlib
import inspect
import itertools
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, cast

import latex2mathml.converter
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import stringify_annotation

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.domains.python import PythonDomain

    from rlgd.agents.presets import Preset
    from rlgd.cli.options import Flag

Cell = Sequence[nodes.Node]


def inline_formula(writer: Any, node: nodes.math) -> None:
    writer.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def formula(writer: Any, node: nodes.math_block) -> None:
    mathml = latex2mathml.converter.convert(node.astext(), display="block")
    style = "overflow-x: auto; overflow-y: hidden; padding: 0.4em 0"  # the theme would cut off what stands high
    writer.body.append(f'<div class="math" style="{style}">{mathml}</div>')
    raise nodes.SkipNode


class OfAgent(SphinxDirective):
    """What the code says of an agent; the argument is its name. Every build reads the pages that have one again."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from rlgd.errors import UsageError

        self.env.note_reread()
        try:
            return self.shown(self.arguments[0])
        except UsageError as error:
            raise self.error(str(error)) from error

    def shown(self, agent: str) -> list[nodes.Node]:
        raise NotImplementedError


class Hyperparameters(OfAgent):
    """``{hyperparameters} ppo``: every hyper-parameter, those of parts included, as ``--help-all`` groups them."""

    head: ClassVar = ("flag", "default", "allowed", "what it is")

    def shown(self, agent: str) -> list[nodes.Node]:
        from rlgd.cli.help_page import GROUPS, group_of
        from rlgd.cli.options import flags_of
        from rlgd.cli.train import Options

        flags = [flag for flag in flags_of(Options.defaults({"agent": agent})).values() if flag.path[0] == AGENT_PART]
        shown: list[nodes.Node] = []
        for group in GROUPS:
            if rows := [_described(flag) for flag in flags if group_of(flag) == group]:
                shown += [nodes.rubric("", group), table(self.head, rows)]
        return shown


class Presets(OfAgent):
    """``{presets} ppo``: what was tuned for the agent, by environment."""

    head: ClassVar = ("environment", "steps", "settings that are not the defaults")

    def shown(self, agent: str) -> list[nodes.Node]:
        from rlgd.agents import presets, registered_name

        if rows := [_preset(preset) for preset in presets.of_agent(registered_name(agent)).values()]:
            return [table(self.head, rows)]
        return [nodes.paragraph("", "This agent has no presets: every environment gets its defaults.")]


class Scores(OfAgent):
    """``{scores} ppo``: the agent's rows of the tables that ``rlgd reproduce`` wrote to ``reproduce-*.md``."""

    columns: ClassVar = ("environment", "steps", "seeds", "rlgd", "worst")

    def shown(self, agent: str) -> list[nodes.Node]:
        lines = [
            "| environment | steps | seeds | return | worst seed | settings |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for path in sorted(Path(__file__).parent.glob("reproduce-*.md"), key=lambda path: (_is_by_rule(path), path)):
            settings = "by rule" if _is_by_rule(path) else "preset"
            for row in rows_of(path):
                if row["agent"] == agent and row["rlgd"] != "-":
                    cells = [*(row[column] for column in self.columns), f"[{settings}](/{path.name})"]
                    lines.append(f"| {' | '.join(cells)} |")
        return self.parse_text_to_nodes("\n".join(lines))


def _is_by_rule(path: Path) -> bool:
    return path.stem.endswith("-auto")


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of the only table in a Markdown file, by its column heads."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return (dict(zip(head, row, strict=True)) for row in rows)


AGENT_PART = "hyperparameters"  # the field of the options of `rlgd train` that holds the agent


def _described(flag: "Flag") -> tuple[Cell, ...]:
    choices, within = flag.metadata.get("choices"), flag.metadata.get("within")
    if choices:
        allowed = separated(map(code, choices))
    elif flag.kind is bool:
        allowed = separated(map(code, ("on", "off")))
    else:
        allowed = [code(within)] if within and within != "(-inf, inf)" else []
    return [unbroken(option(flag.name))], [code(_shown(flag.default))], allowed, [nodes.Text(flag.metadata["doc"])]


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or "none"
    return str(default)


def _preset(preset: "Preset") -> tuple[Cell, ...]:
    settings = separated((unbroken(_setting(name, value)) for name, value in preset.settings.items()), " ")
    return [unbroken(preset.env)], [nodes.Text(f"{preset.total_timesteps:,}")], settings or [nodes.Text("none")]


def _setting(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return option(name if value else f"no_{name}")
    return f"{option(name)} {_shown(value)}"


def option(name: str) -> str:
    """A field as the command line writes it."""
    return f"--{name.replace('_', '-')}"


def code(text: str) -> nodes.Node:
    return nodes.literal("", text)


def unbroken(text: str) -> nodes.Node:
    """Code that a narrow column does not break at its hyphens."""
    start, end = (nodes.raw("", html, format="html") for html in ('<span style="white-space: nowrap">', "</span>"))
    return nodes.inline("", "", start, code(text), end)


def separated(parts: Iterable[nodes.Node], by: str = ", ") -> list[nodes.Node]:
    """The parts with a text between each two."""
    return list(itertools.chain.from_iterable((nodes.Text(by), part) for part in parts))[1:]


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> nodes.Node:
    """A table whose cells are given by what stands in them."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", _row([nodes.Text(text)] for text in head))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group, classes=["colwidths-auto"])


def _row(cells: Iterable[Cell]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))


class OfPackage(SphinxDirective):
    """What the code says of a package; the argument is its name. Every build reads the pages that have one again."""

    required_arguments = 1

    @property
    def package(self) -> ModuleType:
        return importlib.import_module(self.arguments[0])

    def known(self, name: str, kind: str, anchor: nodes.Element, elsewhere: bool = False) -> None:
        """Make ``name`` the anchor of a node, and known to the search and to cross-references."""
        anchor["ids"].append(name)
        self.state.document.note_explicit_target(anchor)
        if kind != "module":  # which automodule makes known
            domain = cast("PythonDomain", self.env.get_domain("py"))
            domain.note_object(name, kind, name, aliased=elsewhere, location=anchor)


class Constants(OfPackage):
    """``{constants} rlgd.ascent``: the public constants of a package, with type and values.

    The content says what each is for, one line ``NAME: sentence`` for each.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        said = dict(line.split(": ", 1) for line in self.content if line.strip())
        names = constants(self.package)
        if sorted(said) != sorted(names):
            raise self.error(f"the constants of {self.package.__name__} are {names}, not {[*said]}")
        return [self._described(name, sentence) for name, sentence in said.items()]

    def _described(self, name: str, sentence: str) -> nodes.Node:
        full, value = f"{self.package.__name__}.{name}", getattr(self.package, name)
        signature = addnodes.desc_signature("", "", module=self.package.__name__, fullname=name)
        signature += addnodes.desc_addname("", f"{self.package.__name__}.")
        signature += addnodes.desc_name("", name)
        signature += addnodes.desc_annotation("", "", nodes.Text(f": {type_of(self.package, name)}"))
        content = addnodes.desc_content("", *self.parse_text_to_nodes(sentence), *values(value))
        described = addnodes.desc("", signature, content, domain="py", objtype="data", classes=["py", "data"])
        self.known(full, "data", signature)
        return described


def constants(package: ModuleType) -> list[str]:
    """The public names of a package that autodoc does not show: no classes, functions and modules."""
    names = (name for name in package.__all__ if home_of(package, name) is package)
    return [name for name in names if kind_of(getattr(package, name)) == "data"]


def kind_of(value: Any) -> str:
    """What Sphinx calls such an object."""
    if inspect.isclass(value):
        return "class"
    return "module" if inspect.ismodule(value) else "function" if inspect.isroutine(value) else "data"


def home_of(package: ModuleType, name: str) -> ModuleType:
    """The package below ``package`` that has the name too, and whose section describes it; else ``package``."""
    value = getattr(package, name)
    if inspect.ismodule(value):
        return value
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        below = importlib.import_module(found.name) if found.ispkg else package
        if below is not package and name in getattr(below, "__all__", ()) and getattr(below, name) is value:
            return below
    return package


def type_of(package: ModuleType, name: str) -> str:
    """The type of a constant: as the module says that defines it, else the type's name."""
    value = getattr(package, name)
    for module in [*sys.modules.values()]:
        if getattr(module, "__name__", "").startswith(f"{package.__name__}.") and vars(module).get(name) is value:
            annotation = inspect.get_annotations(module).get(name)
            if annotation is not None:
                return re.sub(r"[~\w]*\.(?=\w)", "", stringify_annotation(annotation, "smart"))
    return type(value).__name__


def values(value: Any) -> list[nodes.Node]:
    """A constant's values: a table of a dictionary with text, the keys of any other, else what it is."""
    if not isinstance(value, dict):
        parts = value if isinstance(value, tuple) else [value]
        shown = [repr(part) if isinstance(part, str | int) else stringify_annotation(part, "smart") for part in parts]
        return [nodes.paragraph("", "", *separated(code(re.sub(r"~[\w.]+\.", "", text)) for text in shown))]
    columns = _columns([*value.values()])
    if not columns:
        return [nodes.paragraph("", "", *separated(map(code, value)))]
    rows = [([unbroken(key)], *(_cell(name, row[name]) for name in columns)) for key, row in _fields(value).items()]
    return [table(("name", *columns), rows)]


def _fields(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields of each value; text and plain tuples of text have one, "value"."""

    def fields(each: Any) -> dict[str, Any]:
        if hasattr(each, "_asdict"):
            return {name: part for name, part in each._asdict().items() if isinstance(part, str)}
        if isinstance(each, tuple) and all(isinstance(part, str) for part in each):
            return {"value": ", ".join(each)}
        return {"value": each} if isinstance(each, str) else {}

    return {key: fields(each) for key, each in value.items()}


def _columns(rows: list[Any]) -> list[str]:
    """The fields that have text in every value."""
    fields = [*_fields(dict(enumerate(rows))).values()]  # type: ignore[arg-type]
    return [name for name in fields[0] if all(row.get(name) for row in fields)]


def _cell(column: str, text: str) -> list[nodes.Node]:
    if column == "formula":  # longer than a column is wide
        return [nodes.raw("", f'<code style="white-space: normal">{html.escape(text)}</code>', format="html")]
    return [nodes.Text(text) if " " in text else code(text)]


class Names(OfPackage):
    """``{names} rlgd``: the public names of a package that other sections describe, with links to these.

    Those that its own section describes are in the table too with ``:all:``.
    """

    option_spec: ClassVar = {"all": lambda argument: True}

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        rows = []
        for name in sorted(self.package.__all__, key=lambda name: (self._is_module(name), name.lower())):
            home = home_of(self.package, name)
            if home is not self.package or "all" in self.options:
                rows.append(self._row(name, home))
        return [table(("name", "what it is", "described in"), rows)]

    def _is_module(self, name: str) -> bool:
        return inspect.ismodule(getattr(self.package, name))

    def _row(self, name: str, home: ModuleType) -> tuple[Cell, ...]:
        value = getattr(self.package, name)
        first = nodes.inline("", "", code(name))
        if home is not self.package:
            self.known(f"{self.package.__name__}.{name}", kind_of(value), first, elsewhere=True)
        target = home.__name__ if self._is_module(name) else f"{home.__name__}.{name}"
        return [first], self._summary(value), [self._link(target)]

    def _summary(self, value: Any) -> Cell:
        if kind_of(value) == "data":
            return [nodes.Text(f"a constant, {type(value).__name__}")]
        paragraph = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
        return self.parse_inline(paragraph.split(". ")[0].rstrip(".") + ".")[0]

    def _link(self, target: str) -> nodes.Node:
        link = addnodes.pending_xref(
            "", code(target), refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname, refexplicit=True
        )
        link["py:module"] = link["py:class"] = None
        return link


BARS = re.compile(r"(``.*?``)|(?<!\\)\|")


def keep_bars(app: "Sphinx", what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Bars in docstrings are absolute values, norms and conditions; Sphinx would look for a substitution."""
    lines[:] = [BARS.sub(lambda found: found[1] or r"\|", line) for line in lines]


def without_aliases(app: "Sphinx", what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples are described with the class; Python's own words for them say nothing."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


SEVERAL = re.compile(r"(\s+)(\w+(?:, \w+)+)(: .*)")


def one_by_one(app: "Sphinx", what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Names that share a description get it one by one: of two names Sphinx would take the first for a type."""
    apart: list[str] = []
    for first, group in _entries(lines):
        found = SEVERAL.fullmatch(first)
        names = found[2].split(", ") if found else []
        for each in names:
            apart += [f"{found[1]}{each}{found[3]}" if found else "", *group]
        apart += [] if names else [first, *group]
    lines[:] = apart


def _entries(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Lines, each with those below it that are indented further; only lines of several names have any."""
    position = 0
    while position < len(lines):
        first, end = lines[position], position + 1
        if found := SEVERAL.fullmatch(first):
            while end < len(lines) and lines[end].startswith(f"{found[1]} "):
                end += 1
        yield first, list(lines[position + 1 : end])
        position = end


def compile_soon(app: "Sphinx") -> None:
    """Examples run small programs once or twice: the builder that tries them has XLA optimize less."""
    if app.builder.name == "doctest" and "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()


def setup(app: "Sphinx") -> dict[str, Any]:
    app.add_html_math_renderer("mathml", inline_renderers=(inline_formula, None), block_renderers=(formula, None))
    app.add_directive("hyperparameters", Hyperparameters)
    app.add_directive("presets", Presets)
    app.add_directive("scores", Scores)
    app.add_directive("constants", Constants)
    app.add_directive("names", Names)
    app.connect("builder-inited", compile_soon)
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("autodoc-process-docstring", one_by_one, priority=400)  # before Napoleon
    app.connect("autodoc-process-docstring", keep_bars, priority=1001)  # after Napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
