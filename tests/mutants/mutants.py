"""The small changes that mutmut makes to a module, and how one of them is put into the running code."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import random
import textwrap
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType

SEED, MOST = 12, 24
"""Of the order, and how many mutants of a module can be drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change of one function.

    Attributes:
        module: the file, from the root of the checkout.
        function: its name, behind its class and a point where it is a method.
        change: the lines that it takes away and puts in.
        digest: of the changed function: a verdict holds as long as the function stays as it is.
        source, plain: of the function, changed and as it is.
    """

    module: str
    function: str
    change: str
    digest: str
    source: str
    plain: str

    @property
    def target(self) -> FunctionType:
        """The function as it is in the running code."""
        owner, _, name = self.function.rpartition(".")
        found = vars(importlib.import_module(dotted(self.module)))
        own = vars(found[owner])[name] if owner else found[name]
        function = getattr(own, "__func__", own)
        assert isinstance(function, FunctionType)
        return function

    def install(self, *, plain: bool = False) -> None:
        """Give the running function the changed code: whoever imported it calls the mutant.

        With `plain` the code that it has, by the same way: what fails then, fails for the way.
        """
        (owner, _, name), target = self.function.rpartition("."), self.target
        source = self.plain if plain else self.source
        text = f"class {owner}:\n{textwrap.indent(source, '    ')}" if owner else source
        scope = dict(target.__globals__)
        exec(compile(f"from __future__ import annotations\n{text}", self.module, "exec"), scope)
        changed = vars(scope[owner])[name] if owner else scope[name]
        changed = getattr(changed, "__func__", changed)
        target.__code__, target.__defaults__ = changed.__code__, changed.__defaults__
        target.__kwdefaults__ = changed.__kwdefaults__


def dotted(module: str) -> str:
    """The name under which a file is imported."""
    return module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutants:
    """How many changes mutmut makes to a module, and the first of them in a seeded order."""

    count: int
    first: list[Mutant]


def mutants_of(root: Path, module: str, kept: Path) -> Mutants:
    """The mutants of a module.

    Args:
        root: of the checkout; it is the working directory, where mutmut looks for its settings.
        kept: a folder for what was made of this source before, which takes mutmut seconds.
    """
    text = (root / module).read_text("utf-8")
    path = kept / f"{hashlib.sha256(f'{module} plain {text}'.encode()).hexdigest()[:20]}.json"
    if path.exists():
        content = json.loads(path.read_text("utf-8"))
        return Mutants(count=content["count"], first=[Mutant(**row) for row in content["first"]])
    found = _made(module, text)
    kept.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found)), "utf-8")
    return found


def _made(module: str, text: str) -> Mutants:
    import libcst
    from mutmut.mutation.file_mutation import create_mutations, deep_replace
    from mutmut.mutation.trampoline_templates import mangle_function_name

    tree, changes, *_ = create_mutations(module, text)
    owners = {
        function: node.name.value
        for node in tree.body
        if isinstance(node, libcst.ClassDef)
        for function in node.body.body
        if isinstance(function, libcst.FunctionDef)
    }
    numbers: dict[object, int] = defaultdict(int)
    named = {}
    for change in changes:
        function = change.contained_by_top_level_function
        if isinstance(function, libcst.FunctionDef):
            numbers[function] += 1
            mangled = mangle_function_name(name=function.name.value, class_name=owners.get(function))
            named[f"{dotted(module)}.{mangled}__mutmut_{numbers[function]}"] = change
    names = sorted(named)
    random.Random(f"{SEED} {module}").shuffle(names)
    first = []
    for change in map(named.__getitem__, names[:MOST]):
        function = change.contained_by_top_level_function
        texts = [
            tree.code_for_node(node).strip("\n")
            for node in (function, deep_replace(function, change.original_node, change.mutated_node))
        ]
        before, after = (each.splitlines() for each in texts)
        differing = [line for line in list(difflib.unified_diff(before, after))[2:] if line[:1] in ("-", "+")]
        owner, name = owners.get(function), function.name.value
        full = f"{owner}.{name}" if owner else name
        first.append(
            Mutant(
                module=module,
                function=full,
                change="\n".join(f"{line[0]} {line[1:].strip()}" for line in differing),
                digest=hashlib.sha256(f"{full}\n{texts[1]}".encode()).hexdigest()[:10],
                source=texts[1],
                plain=texts[0],
            )
        )
    return Mutants(count=len(names), first=first)
