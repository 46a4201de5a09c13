import json
import subprocess
import sys
from pathlib import Path

from tests.xbd_world import write_xbd

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def quick(name, folder, *options):
    """Run a benchmark in small sizes: its rows by name, its settings, what it printed."""
    file = folder / "rows.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--json", str(file)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert all(set(row) == {"name", "value", "unit", "bound", "holds"} for row in rows.values())
    assert report["settings"]["seed"] == 0
    return rows, report["settings"], done.stdout


def test_loader_quick(tmp_path):
    # Its figures say nothing at this size, but that there are any.
    rows, settings, _ = quick("loader", tmp_path, "--only", "local", "zones", "start")
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
    assert {"cores", "size", "torchgeo", "gdal"} <= set(settings)


def test_augment_quick(tmp_path):
    rows, settings, _ = quick("augment", tmp_path)
    # What is left of the whole may be below 0: each part is timed alone.
    assert all(row["value"] > 0 for name, row in rows.items() if "the rest" not in name)
    peers = {"torchvision", "torchvision, no hue", "torchvision, 8 bits", "TorchGeo"}
    peers |= {"lightly", "lightly, 8 bits"}
    bounds = {name: row["bound"] for name, row in rows.items() if row["unit"] == "ratio"}
    assert bounds == {f"ours to {peer}": 1 for peer in peers}
    assert peers | {"ours", "step: views to the step", "part: blur"} <= set(rows)
    assert {"cores", "batch", "bands", "size", "torch", "lightly", "load"} <= set(settings)


def test_losses_quick(tmp_path):
    rows, settings, _ = quick("losses", tmp_path)
    assert all(row["value"] > 0 for row in rows.values() if row["unit"] != "matrices")
    bounds = {row["bound"] for row in rows.values() if row["unit"] == "times"}
    assert bounds == {None, 1.4}
    assert rows["128: FALSE nearest to NT-Xent"]["bound"] == 1.4
    beyond = [row for name, row in rows.items() if "FALSE" in name and "beyond" in name]
    assert len(beyond) == 10
    # What is held does not depend on the machine's load: this bound is settled here too.
    assert all(row["bound"] == 2 and row["holds"] for row in beyond)
    assert rows["128: peak of NT-Xent"]["value"] > 2
    assert {"cores", "sizes", "dim", "torch", "load"} <= set(settings)


def test_xbd_quick_goes_on_where_it_was_cut(tmp_path):
    options = ("--data", str(write_xbd(tmp_path / "xbd")), "--out", str(tmp_path / "runs"))
    rows, settings, printed = quick("xbd", tmp_path, *options)
    assert "1 encoders and 2 segmenters to train" in printed
    for start in ("random", "simclr"):
        for figure in ("building_iou", "damaged_f1", "xview2", "ece", "ece_buildings"):
            assert 0 <= rows[f"{start}/0/1/{figure}"]["value"] <= 1
    assert settings["recipe"]["decoder"] == "unet"
    kept = tmp_path / "runs-quick" / "simclr-0-share1" / "result.json"
    kept.unlink()
    again, _, printed = quick("xbd", tmp_path, *options)
    assert "0 encoders and 1 segmenters to train" in printed
    timed = ("train_s", "score_s")
    assert all(again[n]["value"] == r["value"] for n, r in rows.items() if not n.endswith(timed))


def test_pretrain_quick(tmp_path):
    rows, settings, printed = quick("pretrain", tmp_path, "--only", "SimCLR", "TorchGeo SimCLR")
    assert set(rows) >= {
        "SimCLR",
        "TorchGeo SimCLR",
        "SimCLR to TorchGeo SimCLR",
        "SimCLR: augmentation",
        "SimCLR: loss",
        "SimCLR: both",
        "SimCLR: waiting for data",
        "SimCLR: model",
    }
    assert all(row["value"] > 0 for row in rows.values())
    assert {"batch", "bands", "size", "torchgeo", "gpu", "load"} <= set(settings)
    if settings["device"] == "cpu":
        assert "no GPU here" in printed
        assert all(row["bound"] is None for row in rows.values())


def test_mapping_quick(tmp_path):
    rows, settings, _ = quick("mapping", tmp_path)
    assert all(row["value"] > 0 for row in rows.values())
    bounds = {name: row["bound"] for name, row in rows.items() if row["bound"] is not None}
    assert bounds == {
        "map: ours to the bare model, side 300": 0.85,
        "memory: of a job, side 600, beyond the model": 2000,
        "memory: of a scene to that of half of it": 1.1,
    }
    assert "peer: ours to TorchGeo" in rows
    assert {"side", "batch", "torch", "gdal", "load"} <= set(settings)
