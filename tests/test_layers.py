"""Imports go down only, and what must start fast does not wait for torch."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import rscontrast

# Public classes that only their own package speaks of.
INNER = {
    "BatchLoss", "Calibration", "Choice", "Contrast", "Cover", "DatedPatches", "DecouplingTerm",
    "DenseTask", "DenseViews", "DepositioningTerm", "DepthOutput", "Determined", "EpochShares",
    "Files", "Fitter", "Held", "KnownBounds", "LabelledPatchSampler", "LabelledPatches",
    "LabelsOn", "LazyPairs", "ListedPairs", "LocatedItems", "Lookup", "Lot", "MapScores",
    "MomentumTask", "NativePatches", "NormalisePairs", "NormalisePatches", "Onto", "PairDraw",
    "PairDraws", "PairSet", "PairSource", "PatchDraws", "PerLevel", "QueueLoss",
    "RandomCropSampler", "ReadsAnyGrid", "ReadsDates", "SSLTask", "SameDraws", "ScheduledTask",
    "ShuffledSampler", "Sides", "Signals", "Stratum", "TermInput", "ThreadedDataModule", "Tile",
    "TiledDataModule", "Views",
}  # fmt: skip

ROOT = Path(rscontrast.__file__).parent

# Parts of one layer, in one string, may not import each other; a later string of the list may
# import an earlier one.
LAYERS = [
    "errors", "types", "atomic",
    "losses stac metrics",
    "io augment models",
    "datasets", "samplers", "loader",
    "tasks datamodules mapping",
    "buildings",
    "fit", "stages caching embedding", "study report", "products", "pairing viewing",
    "demo", "cli",
]  # fmt: skip
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts.split()}
FORBIDDEN = {
    "losses": {"numpy", "pandas", "lightning", "kornia", "torchgeo"},
    "stac": {"torch", "torchgeo", "lightning", "kornia"},
    "io": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/choice": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/engine": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/estimate": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/job": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/ledger": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/native": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/sides": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/tiles": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping/plan": {"torch", "torchgeo", "lightning", "kornia"},
    "mapping": {"lightning", "rscontrast.tasks"},
    "buildings": {"torch", "torchgeo", "lightning", "kornia"},
    "products": {"torch", "torchgeo", "lightning", "kornia"},
    "tasks": {"rscontrast.stac", "rscontrast.io", "rscontrast.datasets"},
    "datamodules": {"rscontrast.losses", "rscontrast.models", "rscontrast.tasks"},
    "metrics/segmentation": {"torch"},
    "metrics": {"lightning", "kornia", "torchgeo"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.stem in RANK)


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    here = part_of(path)
    for name in imports(path):
        words = name.split(".")
        if words[0] != "rscontrast" or len(words) == 1 or words[1] == "__version__":
            continue
        there = words[1]
        assert there in RANK, f"{there} has no layer: give it one in this test"
        above = RANK[there] > RANK[here] or (RANK[there] == RANK[here] and there != here)
        assert not above, f"{here} imports {name}"


@pytest.mark.parametrize("place", sorted(FORBIDDEN))
def test_what_a_layer_does_without(place):
    paths = [p for p in MODULES if str(p.relative_to(ROOT).with_suffix("")).startswith(place)]
    assert paths
    for path in paths:
        for name in imports(path):
            for banned in FORBIDDEN[place]:
                assert not f"{name}.".startswith(f"{banned}."), f"{path} imports {name}"


def test_every_module_has_a_layer():
    known = {part_of(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert known <= set(RANK)


@pytest.mark.parametrize(
    "module",
    [
        "rscontrast",
        "rscontrast.stac",
        "rscontrast.io",
        "rscontrast.mapping.plan",
        "rscontrast.products",
    ],
)
def test_starts_without_torch(module):
    code = f"import {module}, sys; print('torch' in sys.modules, 'lightning' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["False", "False"]
    assert out.stderr == ""


@pytest.mark.parametrize("package", ["losses", "tasks", "datasets", "samplers", "datamodules"])
def test_each_public_class_has_one_export_line(package):
    text = (ROOT / package / "__init__.py").read_text()
    exported = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            (alias,) = node.names
            assert alias.asname == alias.name not in exported
            exported[alias.name] = node.module
    for path in (ROOT / package).glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            if public and node.name not in INNER:
                assert exported.get(node.name), f"{node.name} of {path} has no export line"


def test_public_surface_is_the_checked_in_list():
    """What users may import changes on purpose only: then change the list, and the changelog."""
    found = {"rscontrast": sorted(rscontrast.__all__)}
    for path in sorted(ROOT.glob("*/__init__.py")):
        names = [
            alias.asname
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.asname
        ]
        if names:
            found[f"rscontrast.{path.parent.name}"] = sorted(names)
    listed = json.loads((Path(__file__).parent / "public_surface.json").read_text())
    assert found == listed


def test_every_dependency_bound_has_its_reason():
    lines = (ROOT.parent / "pyproject.toml").read_text().splitlines()
    bounds = [i for i, line in enumerate(lines) if line.startswith('    "') and ">=" in line]
    assert len(bounds) > 20
    assert all(lines[i - 1].strip().startswith("#") for i in bounds)


def test_constraints_name_no_address():
    text = (ROOT.parent / "constraints.txt").read_text()
    assert "://" not in text
    assert "--" not in text
    assert all("==" in line for line in text.splitlines() if line)
