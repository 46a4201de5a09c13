from tests.benchmarks import quick
from tests.xbd_world import write_xbd


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
