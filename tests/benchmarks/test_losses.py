from tests.benchmarks import quick


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
