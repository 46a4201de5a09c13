from tests.benchmarks import quick


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
