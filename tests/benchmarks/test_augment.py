from tests.benchmarks import quick


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
