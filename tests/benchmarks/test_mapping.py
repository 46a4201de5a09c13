from tests.benchmarks import quick


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
