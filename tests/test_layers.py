"""Imports point down the map of the packages, lazy imports included, and importing costs nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "crystallm"

LAYERS = [
    {"__main__"},
    {"cli"},
    {"train"},
    {"sample", "eval"},
    {"energy"},
    {"model", "data"},
    {"tokenizer"},
    {"crystal"},
    {"base"},
]
"""From the top down: a name may import those below it, and itself."""

ROOMS = {
    "base": (
        "workers launch input_files provenance folder_lock command_line config whole_file markdown compiling errors"
    ),
    "crystal": (
        "copies api checks volumes matching cif description wyckoff symmetry space_group_symbols formulas cell switch"
    ),
    "tokenizer": "__main__ __init__ build layout text_layout published_texts cif_listing number_format",
    "data": "__main__ seen templates consistency general __init__ preparing sources config",
    "model": "__main__ sharing import_published checkpoint fast_loading architecture editions",
    "energy": "command building ranking __init__ relaxing relaxation analysis potentials hull journal",
    "sample": (
        "__main__ run garbage logits_processor output __init__ api generator answers crystal formats drawing"
        " prompts grammar engine decoding config"
    ),
    "eval": (
        "__main__ textbook baselines benchmarking denovo pages seen prediction validity charge_neutrality sets rate"
    ),
    "train": (
        "__main__ finetune session loop probe held_out export monitor state starting_model accelerator optim texts"
        " schedule config process"
    ),
}
"""Inside a layer, from the top down: its rooms and the modules beside them. Each imports only what comes after it."""

MOST_FILES = 12
"""Python files in one folder."""

SAME_ROLE = {"__init__", "__main__", "config", "report", "command"}
"""File names that may stand in several rooms, each time for the same role."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

ALLOWED = {
    ("", "sample"): "the public API, resolved when it is asked for",
    ("", "energy"): "the same",
    ("", "crystal"): "the same",
    ("", "base"): "the same",
}
"""Imports that the levels alone would refuse, each with its reason; the empty name is crystallm/__init__.py."""


def layer_of(file: Path) -> str:
    """The name in `LAYERS` that a file of the package belongs to."""
    first = file.relative_to(PACKAGE).with_suffix("").parts[0]
    return "" if first == "__init__" else first


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import in the source, inside functions too.

    What stands under `if __name__ == "__main__"` is a program of its own, above all layers.
    """
    for node in walk_library(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}; write crystallm.NAME"
            assert node.module is not None
            # `from crystallm import x` names a layer only where x is one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def walk_library(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that run only in a program."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_library(child)


def wrong_imports(layer: str, tree: ast.AST) -> list[str]:
    """The layers that code of `layer` imports and must not."""
    wrong = []
    for module in imported_modules(tree):
        root, *rest = module.split(".")
        if root != "crystallm" or not rest or rest[0] not in LEVEL or rest[0] == layer:
            continue
        below = layer in LEVEL and LEVEL[rest[0]] > LEVEL[layer]
        if not below and (layer, rest[0]) not in ALLOWED:
            wrong.append(module)
    return wrong


def test_every_module_has_a_layer() -> None:
    names = {layer_of(file) for file in PACKAGE.rglob("*.py")} - {""}
    assert names == set(LEVEL)


@pytest.mark.parametrize("name", sorted({layer_of(file) for file in PACKAGE.rglob("*.py")}))
def test_imports_point_down(name: str) -> None:
    wrong = {
        str(file.relative_to(PACKAGE)): found
        for file in PACKAGE.rglob("*.py")
        if layer_of(file) == name and (found := wrong_imports(name, ast.parse(file.read_text())))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("layer", "source", "wrong"),
    [
        ("eval", "from crystallm.sample.output.records import Record", ["crystallm.sample.output.records.Record"]),
        ("crystal", "def f():\n    import crystallm.tokenizer.build", ["crystallm.tokenizer.build"]),
        ("data", "from crystallm import train", ["crystallm.train"]),
        ("model", 'if __name__ == "__main__":\n    from crystallm.cli import main', []),
        ("sample", "from crystallm.crystal.cell import Cell\nfrom crystallm import __version__", []),
    ],
)
def test_a_wrong_import_is_seen(layer: str, source: str, wrong: list[str]) -> None:
    assert wrong_imports(layer, ast.parse(source)) == wrong


@pytest.mark.parametrize("layer", sorted(ROOMS))
def test_rooms_of_a_layer_import_downwards(layer: str) -> None:
    order = ROOMS[layer].split()
    there = {file.stem if file.suffix else file.name for file in (PACKAGE / layer).iterdir() if holds_python(file)}
    there -= {"__init__"} - set(order)
    assert there == set(order), "a room is missing in ROOMS, or named there and gone"
    wrong = []
    for file in (PACKAGE / layer).rglob("*.py"):
        room = file.relative_to(PACKAGE / layer).with_suffix("").parts[0]
        for module in imported_modules(ast.parse(file.read_text())):
            parts = module.split(".")
            if parts[:2] == ["crystallm", layer] and parts[2] in order and order.index(parts[2]) < order.index(room):
                wrong.append(f"{file.relative_to(PACKAGE)} imports {module}")
    assert not wrong


def holds_python(file: Path) -> bool:
    return file.suffix == ".py" or (file.is_dir() and any(file.rglob("*.py")))


def test_no_room_is_crowded() -> None:
    folders = {file.parent for file in PACKAGE.rglob("*.py")}
    crowded = {folder.name: count for folder in folders if (count := len(list(folder.glob("*.py")))) > MOST_FILES}
    assert not crowded


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports inside functions and for types included."""
    graph = {name_of(file): modules_used(file) for file in PACKAGE.rglob("*.py")}
    del graph["crystallm"]  # the public API names everything, when it is asked for
    ready: set[str] = set()
    while found := {name for name, used in graph.items() if used & graph.keys() <= ready} - ready:
        ready |= found
    assert not graph.keys() - ready


def name_of(file: Path) -> str:
    return ".".join(["crystallm", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def modules_used(file: Path) -> set[str]:
    """Modules of the package that a file imports; not those that only resolve names of a package when asked for."""
    if file.name == "__init__.py":
        return set()
    names = {name_of(other) for other in PACKAGE.rglob("*.py")} - {name_of(file)}
    return {
        module if module in names else module.rpartition(".")[0]
        for module in imported_modules(ast.parse(file.read_text()))
    } & names - {"crystallm"}


def in_new_process(source: str) -> str:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_crystal_eval_and_energy_never_reach_torch() -> None:
    """Not when they are imported; those of energy that load a potential may import it inside a function."""
    modules = [
        ".".join(["crystallm", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for name in ("crystal", "eval", "energy")
        for file in sorted((PACKAGE / name).rglob("*.py"))
    ]
    loaded = in_new_process(
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    ).split()
    assert set(modules) <= set(loaded)
    assert not {"torch", "transformers", "tokenizers", "accelerate"} & set(loaded)
    for name in ("crystal", "eval"):  # nor by an import inside a function
        for file in (PACKAGE / name).rglob("*.py"):
            roots = {module.split(".")[0] for module in imported_modules(ast.parse(file.read_text()))}
            assert not roots & {"torch", "transformers", "accelerate"}, file


def test_importing_the_package_costs_nothing() -> None:
    """No third-party module, no output, no warning filter and no log handler of its own."""
    source = """
import logging, sys, warnings
before, filters = set(sys.modules), list(warnings.filters)
import crystallm, crystallm.cli, crystallm.base.errors
roots = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(roots - sys.stdlib_module_names - {"crystallm"}), warnings.filters == filters, logging.root.handlers)
"""
    assert in_new_process(source) == "[] True []\n"
