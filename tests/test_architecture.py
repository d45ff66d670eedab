"""What may import what, who may print, and how long a module may be."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import networkx
import pytest

import costmodel

ROOT = Path(__file__).resolve().parent.parent
HEAVY = frozenset({"torch", "transformers", "tensorly", "pandas", "scipy", "matplotlib", "jinja2", "validate"})
MAX_LINES = 400


ROOMS = {
    "costmodel": (
        "_version", "errors", "units", "arrays", "files", "blocks", "weights", "head", "words", "tensors", "family",
        "shape", "model",
        "hardware", "decomposition", "forward", "families", "space", "timing", "pricing", "explore", "show", "api",
        "cli", "__main__",
    ),
    "validate": (
        "errors", "interval", "store", "devices", "cluster", "hf", "models", "factors", "runtimes", "plans", "replay",
        "pages", "speed", "quality", "sensitivity", "checkpoint", "heal", "predictor", "calibration", "probes",
        "choose", "cli", "__main__",
    ),
}  # fmt: skip
"""The rooms of each package from the ground up: a module imports from its own room and from those before it."""


class Rule(NamedTuple):
    """`subject` and what is below it import nothing of `banned`, not even in a function."""

    subject: str
    banned: tuple[str, ...]
    why: str


COUNTS_ONLY = ("costmodel.hardware", "costmodel.timing")
RULES = [
    Rule(
        "costmodel",
        ("torch", "transformers", "tensorly", "pandas", "scipy", "validate", "studies"),
        "the analytical model needs numpy and networkx alone",
    ),
    *(
        Rule(f"costmodel.{name}", COUNTS_ONLY, "counts know no hardware")
        for name in ("shape", "model", "families", "forward", "decomposition", "space")
    ),
    Rule(
        "costmodel.space",
        ("costmodel.forward", "costmodel.pricing"),
        "a space is combinatorics; prices come from outside",
    ),
    Rule(
        "costmodel.timing",
        ("costmodel.forward.passes", "costmodel.forward.frame", "costmodel.forward.attention"),
        "an operation is timed alone",
    ),
    Rule("validate", ("studies",), "the library knows no studies"),
    Rule(
        "validate.speed.timing",
        ("costmodel.model", "costmodel.families", "transformers", "validate.models", "validate.factors"),
        "it times any callable",
    ),
    Rule("validate.calibration", ("transformers", "tensorly"), "it fits tables and records, and builds no model"),
    Rule("validate.calibration.whole", ("torch",), "records of whole passes are refitted in a blink, by least squares"),
]


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@functools.cache
def imports(source: str, module: str, is_package: bool = False) -> frozenset[str]:
    """Dotted names that a module's text imports anywhere; of `from a import b` both `a` and `a.b`."""
    package = module if is_package else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def covers(name: str, module: str) -> bool:
    """Whether `module` is `name` or lies below it."""
    return module == name or module.startswith(f"{name}.")


def violations(rule: Rule, module: str, source: str, is_package: bool = False) -> set[str]:
    return {name for name in imports(source, module, is_package) if any(covers(ban, name) for ban in rule.banned)}


def subjects(rule: Rule) -> list[tuple[str, Path]]:
    return [(name, path) for name, path in modules(rule.subject.partition(".")[0]) if covers(rule.subject, name)]


def test_of_calibration_only_the_networks_training_imports_torch() -> None:
    importing = {name for name, path in modules("validate") if "torch" in imports(path.read_text(), name)}
    assert {name for name in importing if covers("validate.calibration", name)} == {"validate.calibration.net"}


def test_one_room_alone_knows_ray() -> None:
    importing = {
        name
        for name, path in modules("validate")
        if {"ray", "dask", "joblib", "socket"} & imports(path.read_text(), name)
    }
    assert {room_of(name) for name in importing} == {"cluster"}


def outputs(source: str) -> list[str]:
    """Each `print(`, `sys.exit`, `sys.stdout`, `sys.stderr` and `SystemExit` of a module's text, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="print" | "exit" | "quit" as name)):
                found.append(f"{name} in line {node.lineno}")
            case ast.Attribute(value=ast.Name(id="sys"), attr="exit" | "stdout" | "stderr" as name):
                found.append(f"sys.{name} in line {node.lineno}")
            case ast.Name(id="SystemExit"):
                found.append(f"SystemExit in line {node.lineno}")
    return found


def loaded_after(code: str) -> set[str]:
    """Top-level names in `sys.modules` of a fresh interpreter that has run `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


def test_bare_import_is_light() -> None:
    loaded = loaded_after("import costmodel")
    assert "costmodel" in loaded
    assert not loaded & (HEAVY | {"numpy", "networkx", "click", "rich", "msgspec"})


def test_no_module_imports_a_heavy_library() -> None:
    names = [info.name for info in pkgutil.walk_packages(costmodel.__path__, "costmodel.")]
    assert "costmodel.errors" in names
    assert "costmodel.cli.common" in names
    loaded = loaded_after("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names))
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", sorted(costmodel._MODULE_OF))
def test_public_name_resolves(name: str) -> None:
    assert getattr(costmodel, name).__module__ == f"costmodel.{costmodel._MODULE_OF[name]}"
    assert name in dir(costmodel)


def test_type_checkers_see_the_public_names() -> None:
    tree = ast.parse((ROOT / "costmodel" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    lines = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {(node.module, alias.asname) for node in lines for alias in node.names}
    assert seen == {(f"costmodel.{module}", name) for name, module in costmodel._MODULE_OF.items()}
    assert sorted(costmodel.__all__) == sorted([*costmodel._MODULE_OF, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        costmodel.nonesuch  # noqa: B018 - reading the attribute is the test


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.subject)
def test_import_direction(rule: Rule) -> None:
    checked = subjects(rule)
    assert checked, f"{rule.subject} does not exist: the rule guards nothing"
    found = {name: violations(rule, name, path.read_text(), path.stem == "__init__") for name, path in checked}
    assert not {name: bad for name, bad in found.items() if bad}, rule.why


def room_of(module: str) -> str:
    """The part of a package that a module lies in: `timing` for `costmodel.timing.datasheet`."""
    return module.split(".")[1]


def climbs(package: str) -> dict[str, set[str]]:
    """Modules of a package that import from a room above their own, with what they import."""
    order = ROOMS[package]
    names = dict(modules(package))
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        if name == package:
            continue
        wanted = {each for each in imports(path.read_text(), name, path.stem == "__init__") if each in names}
        above = {each for each in wanted - {package} if order.index(room_of(each)) > order.index(room_of(name))}
        if above:
            found[name] = above
    return found


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_is_in_the_order_and_exists(package: str) -> None:
    rooms = {room_of(name) for name, _ in modules(package) if name != package}
    assert rooms == set(ROOMS[package])


@pytest.mark.parametrize("package", ROOMS)
def test_imports_never_climb(package: str) -> None:
    assert not climbs(package)


@pytest.mark.parametrize("package", ROOMS)
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    graph = networkx.DiGraph()
    names = dict(modules(package))
    for name, path in names.items():
        wanted = imports(path.read_text(), name, path.stem == "__init__")
        graph.add_edges_from((name, each) for each in wanted if each in names and each not in (name, package))
    assert graph.number_of_nodes() >= 50
    assert not list(networkx.simple_cycles(graph))


def test_a_climb_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROOMS, "costmodel", tuple(reversed(ROOMS["costmodel"])))
    assert "costmodel.timing.datasheet" in climbs("costmodel")


def test_library_code_imports_no_command_line() -> None:
    """A `cli` room is imported by command lines alone, its package's own and that of the package above it."""
    found = {
        name: used
        for package in ("costmodel", "validate")
        for name, path in modules(package)
        if room_of(f"{name}.") not in ("cli", "__main__")
        and (used := {other for other in imports(path.read_text(), name, path.stem == "__init__") if ".cli" in other})
    }
    assert not found


def test_violations_are_found() -> None:
    rule = Rule("costmodel.forward.passes", ("costmodel.hardware",), "")
    for source in (
        "import costmodel.hardware.profile",
        "from costmodel import hardware",
        "from costmodel.hardware.profile import HardwareProfile",
        "from ..hardware import HardwareProfile",
        "from .. import hardware",
        "def f():\n    from costmodel.hardware import X",
    ):
        assert violations(rule, "costmodel.forward.passes", source), source
    assert not violations(
        rule, "costmodel.forward.passes", "from costmodel.forward.cost import OpCost\nimport networkx"
    )
    assert outputs("import sys\nprint(1)\nsys.exit(2)\nraise SystemExit(3)") == [
        "print in line 2",
        "sys.exit in line 3",
        "SystemExit in line 4",
    ]


def test_only_the_command_line_prints_and_exits() -> None:
    checked = [
        (name, path)
        for package in ("costmodel", "validate")
        for name, path in modules(package)
        if not covers(f"{package}.cli", name)
    ]
    assert len(checked) >= 50
    found = {name: outputs(path.read_text()) for name, path in checked}
    assert not {name: lines for name, lines in found.items() if lines}


def test_modules_are_short() -> None:
    lengths = {
        name: len(path.read_text().splitlines())
        for package in ("costmodel", "validate")
        for name, path in modules(package)
    }
    assert "costmodel.errors" in lengths
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}


def test_the_page_on_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for rooms in ROOMS.values():
        assert not {room for room in rooms if not room.startswith("_") and f"`{room}`" not in page}


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names alone."""
    names = [path.name for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    assert len(names) > 100
    assert not {name for name in names if names.count(name) > 1}
