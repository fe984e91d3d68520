"""The house rules as tests: sizes, docstrings, a test file for every source file, words that have no place here."""

from __future__ import annotations

import ast
import importlib
import re
import statistics
from pathlib import Path

import pytest

from vdpasim.core.rules import RULES
from vdpasim.core.switches import SWITCHES

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted((ROOT / "vdpasim").rglob("*.py"))
TEXTS = sorted(
    path
    for folder in ("vdpasim", "tests", "scenarios", "bench", "docs", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".md", ".toml", ".rst") or path.name == "run"
) + [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml")]

MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
FUNCTION_LINES_MEDIAN_MAX = 12
NESTING_MAX = 4

# Source files without a test file of their own, with the reason. It may only shrink.
UNTESTED = {
    "conform/floor.py": "a protocol; test_live.py and test_simulated.py test both implementations",
}

# Words that have no place in the repository: unfinished business, and paths of the machine something was written on.
BANNED = [re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), re.compile(r"(?<![\w.$}])/(work|root|home)/")]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its decorators and its docstring."""
    body = function.body
    documented = ast.get_docstring(function) is not None
    last = function.end_lineno or function.lineno
    docstring = (body[0].end_lineno or 0) - body[0].lineno + 1 if documented else 0
    return last - function.lineno + 1 - docstring


def depth(node: ast.AST, level: int = 0) -> int:
    """How deep blocks lie in blocks inside a function; `elif` is no deeper than `if`."""
    blocks = ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match | ast.AsyncFor | ast.AsyncWith
    deepest = level
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                continue
            if isinstance(child, ast.AST):
                is_elif = isinstance(node, ast.If) and field == "orelse" and isinstance(child, ast.If)
                deeper = isinstance(child, blocks) and not is_elif
                deepest = max(deepest, depth(child, level + deeper))
    return deepest


def has_code(path: Path) -> bool:
    body = ast.parse(path.read_text("utf-8")).body
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body)


def files_testing(source: Path) -> list[Path]:
    """The tests of a source file: test_NAME.py, or test_NAME_*.py as far as that is not another source file's."""
    stem = "init" if source.name == "__init__.py" else source.stem
    folder = ROOT / "tests" / source.relative_to(ROOT / "vdpasim").parent
    longer = [f"test_{other.stem}" for other in source.parent.glob(f"{stem}_*.py")]
    found = [*folder.glob(f"test_{stem}.py"), *folder.glob(f"test_{stem}_*.py")]
    return sorted(path for path in found if not path.stem.startswith(tuple(longer)))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
class TestSourceFile:
    def test_begins_with_a_docstring(self, path: Path) -> None:
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert docstring, "say what the module is, and which kernel file it mirrors"
        assert docstring.split("\n\n")[0].endswith("."), "the first paragraph of a docstring is a sentence"

    def test_is_no_longer_than_one_sitting(self, path: Path) -> None:
        assert len(path.read_text("utf-8").splitlines()) <= MODULE_LINES_MAX

    def test_has_short_functions(self, path: Path) -> None:
        tree = ast.parse(path.read_text("utf-8"))
        long = {f.name: length(f) for f in functions(tree) if length(f) > FUNCTION_LINES_MAX}
        assert not long

    def test_does_not_nest_deeply(self, path: Path) -> None:
        tree = ast.parse(path.read_text("utf-8"))
        deep = {f.name: depth(f) for f in functions(tree) if depth(f) > NESTING_MAX}
        assert not deep


@pytest.mark.parametrize("path", [path for path in SOURCES if has_code(path)], ids=relative)
def test_every_source_file_with_code_has_a_test_file(path: Path) -> None:
    name = path.relative_to(ROOT / "vdpasim").as_posix()
    if name in UNTESTED:
        assert not files_testing(path), f"{name} has a test file now: take it off the list"
    else:
        assert files_testing(path), "tests/ mirrors vdpasim/"


def test_the_median_function_is_short() -> None:
    lengths = [length(f) for path in SOURCES for f in functions(ast.parse(path.read_text("utf-8")))]
    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN_MAX


def test_exceptions_name_files_that_exist() -> None:
    assert [name for name in UNTESTED if not (ROOT / "vdpasim" / name).exists()] == []


@pytest.mark.parametrize("path", [path for path in SOURCES if "core" in path.parts], ids=relative)
def test_core_ranges_are_inclusive_and_say_last(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert "end" not in names, "ranges are [start, last]"


@pytest.mark.parametrize("path", [path for path in TEXTS if path != Path(__file__)], ids=relative)
def test_has_no_banned_word(path: Path) -> None:
    text = path.read_text("utf-8")
    found = [f"{number}: {line.strip()}" for number, line in enumerate(text.splitlines(), 1) if _banned(line)]
    assert found == []


def _banned(line: str) -> bool:
    return any(pattern.search(line) for pattern in BANNED)


TABLES = [ROOT / "vdpasim" / "core" / name for name in ("switches.py", "profiles.py", "rules")]


def words(path: Path) -> set[str]:
    """The string literals of a file, without the ids of the rules that it declares."""
    tree = ast.parse(path.read_text("utf-8"))
    rows = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Rule"]
    declared = {id(row.args[0]) for row in rows}
    literals = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in declared]
    return {node.value for node in literals if isinstance(node.value, str)}


@pytest.fixture(scope="module")
def used() -> set[str]:
    """What the package names outside of the tables of rules, switches and profiles."""
    paths = [path for path in SOURCES if path not in TABLES and path.parent not in TABLES]
    return {word for path in paths for word in words(path)}


def test_every_switch_is_asked_for_or_says_why_not(used: set[str]) -> None:
    unused = {switch.name for switch in SWITCHES.values() if switch.name not in used}
    assert unused == {switch.name for switch in SWITCHES.values() if switch.unmodelled}


def test_every_rule_is_named_where_it_is_met(used: set[str]) -> None:
    assert set(RULES) - used == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent not in TABLES], ids=relative)
def test_what_is_refused_or_hit_is_a_rule(path: Path) -> None:
    calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
    named = {
        argument.value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in ("fail", "hit")
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))  # which may bring rules of its own
    assert named <= set(RULES)


class TestTheRulesThemselves:
    """The checks above can fail."""

    def test_length_leaves_out_the_docstring(self) -> None:
        tree = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')
        assert length(functions(tree)[0]) == 2

    def test_depth_counts_blocks_but_not_elif(self) -> None:
        tree = ast.parse(
            "def f(a):\n    for b in a:\n        if b:\n            pass\n        elif a:\n            pass\n"
        )
        assert depth(functions(tree)[0]) == 2

    def test_a_declared_rule_is_not_one_that_is_met(self, tmp_path: Path) -> None:
        source = tmp_path / "a.py"
        source.write_text('register([Rule("x.declared", "a.c:f()", 1, "")])\nraise fail("x.met")\n')
        assert words(source) & {"x.declared", "x.met"} == {"x.met"}

    @pytest.mark.parametrize("line", ["# TODO later", "cd /root/x", "see /work/tree"])
    def test_banned_words_are_seen(self, line: str) -> None:
        assert _banned(line)

    @pytest.mark.parametrize("line", ["the /proc/PID/mem of it", "$root/home/x", "a workroom"])
    def test_other_words_are_not(self, line: str) -> None:
        assert not _banned(line)
