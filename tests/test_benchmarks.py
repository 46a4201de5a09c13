import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "loader.py"


def test_loader_quick(tmp_path):
    file = tmp_path / "rows.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--only", "local", "zones", "start"]
    done = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    # Its figures say nothing at this size, but that there are any.
    assert all(set(row) == {"name", "value", "unit", "bound", "holds"} for row in rows.values())
    assert all(
        row["value"] > 0 for row in rows.values() if row["unit"] in ("ratio", "pairs/s", "s")
    )
    bounds = {name: row["bound"] for name, row in rows.items() if row["bound"] is not None}
    assert bounds == {
        "local: ours to the limit, 1 process": 0.7,
        "local: ours to the limit, 2 workers": 0.7,
        "local: ours to TorchGeo, 1 process": 1.6,
        "local: ours to TorchGeo, 2 workers": 1.6,
        "local: block-aligned to the limit, 1 process": 2,
        "local: block-aligned to the limit, 2 workers": 2,
        "local: block-aligned to TorchGeo, 1 process": 4,
        "local: block-aligned to TorchGeo, 2 workers": 4,
        "two zones: ours to a WarpedVRT": 5,
        "start: first patch": 2,
    }
    assert report["settings"]["seed"] == 0
    assert {"cores", "size", "torchgeo", "gdal"} <= set(report["settings"])


def test_augment_quick(tmp_path):
    file = tmp_path / "rows.json"
    command = [sys.executable, str(BENCHMARKS / "augment.py"), "--quick", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert all(set(row) == {"name", "value", "unit", "bound", "holds"} for row in rows.values())
    assert all(row["value"] > 0 for name, row in rows.items() if name != "part: the rest")
    peers = {"torchvision", "torchvision, no hue", "torchvision, 8 bits", "TorchGeo"}
    peers |= {"lightly", "lightly, 8 bits"}
    bounds = {name: row["bound"] for name, row in rows.items() if row["unit"] == "ratio"}
    assert bounds == {f"ours to {peer}": 1 for peer in peers}
    assert peers | {"ours", "step: views to the step", "part: blur"} <= set(rows)
    assert report["settings"]["seed"] == 0
    assert {"cores", "batch", "bands", "size", "torch", "lightly", "load"} <= set(
        report["settings"]
    )


def test_mapping_quick(tmp_path):
    file = tmp_path / "rows.json"
    command = [sys.executable, str(BENCHMARKS / "mapping.py"), "--quick", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert all(set(row) == {"name", "value", "unit", "bound", "holds"} for row in rows.values())
    assert all(row["value"] > 0 for row in rows.values())
    bounds = {name: row["bound"] for name, row in rows.items() if row["bound"] is not None}
    assert bounds == {
        "map: ours to the bare model, side 300": 0.85,
        "memory: of a job, side 600, beyond the model": 2000,
        "memory: of a scene to that of half of it": 1.1,
    }
    assert "peer: ours to TorchGeo" in rows
    assert {"side", "batch", "torch", "gdal", "load"} <= set(report["settings"])
