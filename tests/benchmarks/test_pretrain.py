from tests.benchmarks import quick


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
