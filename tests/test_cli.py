"""The command line: examples that work, YAML, and one clear line for bad input."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import shapely
import torch
import yaml
from PIL import Image

from rscontrast.cli import COMMANDS, SCENES, main
from rscontrast.datasets import CachedPairs
from rscontrast.mapping.status import status
from rscontrast.models import create_segmenter, load_encoder, save_segmenter
from rscontrast.report import views as sheet
from rscontrast.stac import read_items, read_pairs
from rscontrast.stac.index import item_dicts
from rscontrast.stac.provider import read_provider
from rscontrast.viewing import choose_bands
from tests.interrupt import heed_ctrl_c
from tests.sample_world import CONTRACT
from tests.stac.generated import optical
from tests.stac.light_api import LightApi
from tests.stac.server import Server

ROOT = Path(__file__).parent.parent
TRAINS = ("pretrain", "finetune")
SMALL = "--encoder tu-resnet10t --patch_size 64 --epochs 1 --progress false --device cpu"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder in which the examples of the help can be run one after the other."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "sample_data").symlink_to(ROOT / "sample_data")
    before = Path.cwd()
    os.chdir(folder)
    for name in ("search", "pairs"):
        for example in COMMANDS[name].examples:
            assert main(shlex.split(example)[1:]) == 0
    yield folder
    os.chdir(before)


def refused(capsys, line):
    """Run a command that must fail; return its one line."""
    assert main(shlex.split(line)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples_config_and_seed(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for example in COMMANDS[name].examples:
        assert example in text
    assert "--config" in text
    assert "--seed" in text


def test_search_shows_three_commands():
    command = COMMANDS["search"]
    assert len(command.examples + command.online) == 3
    for example in command.online:
        words = shlex.split(example)
        assert words[:2] == ["rscontrast", "search"]
        read_provider(words[words.index("--source") + 1])


def test_the_online_example_on_a_server_of_its_own(tmp_path, capsys):
    """The same words, but for the address and the name of the collection."""
    items = optical(40)
    with Server(LightApi(items)) as server:
        line = COMMANDS["search"].online[0].replace("earth-search", server.url)
        line = line.replace("sentinel-2-l2a", "optical").replace(
            "13.2,52.4,13.6,52.6", "-180,-90,180,90"
        )
        line = line.replace("2023-06/2023-08", "2000/..").replace(
            "runs/berlin", str(tmp_path / "found")
        )
        assert main(shlex.split(line)[1:]) == 0
    clear = [i["id"] for i in items if (i["properties"].get("eo:cloud_cover") or 100) < 20]
    assert set(read_items(tmp_path / "found.parquet")["id"]) == set(clear)
    assert f"{len(clear)} items" in capsys.readouterr().out


def test_a_filter_in_json_and_a_bad_one(checkout, capsys):
    query = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 20]}
    line = (
        f"search --source runs/items.parquet --out runs/json.parquet --filter '{json.dumps(query)}'"
    )
    assert main(shlex.split(line)) == 0
    assert read_items("runs/json.parquet")["eo:cloud_cover"].max() < 20
    bad = "search --source runs/items.parquet --out runs/bad.parquet --filter 'eo:cloud_cover <'"
    assert "filter: got 'eo:cloud_cover <'" in refused(capsys, bad)


def test_pairs_prints_a_table_draws_and_measures(checkout, capsys):
    assert main(shlex.split(COMMANDS["pairs"].examples[2])[1:]) == 0
    text = capsys.readouterr().out
    for word in ("places", "straddle", "30-90 d", "ratio_nir", "runs/measured.png"):
        assert word in text
    measured = gpd.read_parquet("runs/measured.parquet")
    assert measured["change"].notna().sum() == 12
    assert measured["valid_share"].dropna().between(0, 1).all()
    assert Path("runs/measured.png").read_bytes()[1:4] == b"PNG"
    line = "pairs --items runs/items.parquet --event 2022-08-15 --event_area 11.9,45.9,11.99,46.1"
    assert (
        main(shlex.split(f"{line} --relation straddle --figure false --out runs/west.parquet")) == 0
    )
    assert {ids[0][:4] for ids in read_pairs("runs/west.parquet")["pre_ids"]} == {"west"}
    assert not Path("runs/west.png").exists()
    assert "bands: got" in refused(capsys, "pairs --items runs/items.parquet --quality 3 --out x")
    area = "pairs --items runs/items.parquet --event_area 1,1,2,2 --out x"
    assert "event: got None" in refused(capsys, area)


def test_overview_names_every_command(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_tables_of_the_examples(checkout):
    assert len(read_items("runs/items.parquet")) == 32
    assert read_items("runs/late.parquet")["datetime"].min().year == 2022
    assert read_pairs("runs/pairs.parquet")["gap_days"].min() >= 30
    assert read_pairs("runs/labelled.parquet")["straddles_event"].all()


@pytest.mark.slow
def test_train_score_and_map(checkout, capsys):
    """Examples of the help, with smaller numbers behind theirs."""
    pretrain, finetune = (COMMANDS[name].examples[0] for name in TRAINS)
    assert main(shlex.split(f"{pretrain} {SMALL} --batch_size 8 --length 16")[1:]) == 0
    smaller = SMALL.replace("--encoder tu-resnet10t", "--batch_size 4 --length 8")
    assert main(shlex.split(f"{finetune} {smaller}")[1:]) == 0
    record = json.loads(Path("runs/encoder.json").read_text())
    assert record["task"] == "FALSE"
    for method, task in (("pixpro", "PixPro"), ("densecl", "DenseCL")):
        dense = pretrain.replace("false", method).replace("encoder.pt", f"{method}.pt")
        options = f"{SMALL} --batch_size 4 --length 4 --method_args.hidden_dim 8"
        assert main(shlex.split(f"{dense} {options}")[1:]) == 0
        assert json.loads(Path(f"runs/{method}.json").read_text())["task"] == task
    assert record["steps"] == 2
    assert not list(Path("runs").glob("*.partial*"))
    for name in ("evaluate", "map"):
        line = f"{COMMANDS[name].examples[0]} --patch_size 64 --overlap 8 --progress false"
        assert main(shlex.split(f"{line} --tile_size 256")[1:]) == 0
    assert "destroyed" in capsys.readouterr().out
    assert set(json.loads(Path("runs/scores.json").read_text())) >= {"all"}
    catalog = pystac.Catalog.from_file("runs/maps/catalog.json")
    found = status("runs/maps")
    assert len(list(catalog.get_items(recursive=True))) == found.done > 4
    for example, word in zip(COMMANDS["map"].examples[1:], ("to read: about", "done"), strict=True):
        assert main(shlex.split(example)[1:]) == 0
        assert word in capsys.readouterr().out
    given, drawn = COMMANDS["buildings"].examples
    assert main(shlex.split(given)[1:]) == 0
    graded = gpd.read_parquet("runs/buildings.parquet")
    assert {name.split("_")[0] for name in graded["pair"]} == {"mosaic"}
    assert graded["building_id"].notna().all()
    assert main(shlex.split(drawn)[1:]) == 0
    assert Path("runs/drawn.parquet").is_file()
    probe = COMMANDS["finetune"].examples[1]
    assert main(shlex.split(f"{probe} {smaller}")[1:]) == 0
    record = json.loads(Path("runs/probe.json").read_text())
    assert record["hyperparameters"]["decoder"] == "linear"
    assert record["hyperparameters"]["freeze_encoder"] is True


def test_map_says_what_is_missing(checkout, capsys):
    assert "items: got 'both or neither" in refused(capsys, "map --checkpoint a.pt --out runs/x")
    both = "map --items runs/items.parquet --catalog sample_data/catalog.json"
    assert "items: got 'both or neither" in refused(capsys, both)
    only = "map --items runs/items.parquet --event 2022-08-15"
    assert "checkpoint: got None" in refused(capsys, only)
    assert "no such file" in refused(capsys, f"{only} --checkpoint missing.pt --out runs/x")
    assert "status: got 'runs/none'" in refused(capsys, "map --status runs/none")


@pytest.mark.slow
def test_a_segmenter_is_exported(checkout, tmp_path):
    module = create_segmenter("tu-test_resnet", "fpn", 4, 5)
    save_segmenter(tmp_path / "segmenter.pt", module, CONTRACT, tuple("abcde"))
    (line,) = COMMANDS["export"].examples
    assert main(shlex.split(line.replace("runs/", f"{tmp_path}/"))[1:]) == 0
    assert torch.export.load(tmp_path / "segmenter.pt2") is not None


@pytest.mark.slow
def test_draw_once_and_train_on_it(checkout, capsys):
    """Examples of the help, with smaller numbers behind theirs."""
    (keep,), train = COMMANDS["cache"].examples, COMMANDS["pretrain"].examples[1]
    smaller = "--length 12 --patch_size 64 --progress false"
    assert main(shlex.split(f"{keep} {smaller} --by place --min_valid 0.5 --seed 7")[1:]) == 0
    assert capsys.readouterr().out == "runs/cache.zarr\n"
    cached = CachedPairs("runs/cache.zarr")
    assert len(cached) == 12
    rules = {"by": "place", "min_valid": 0.5, "patch_size": 64, "register": None}
    assert rules.items() <= cached.attributes["rules"].items()
    assert cached.attributes["seed"] == 7
    assert refused(capsys, f"{keep} {smaller}"[11:]).startswith("rscontrast: out: got")
    tiny = "--encoder tu-resnet10t --epochs 1 --progress false --device cpu --batch_size 4"
    assert main(shlex.split(f"{train} {tiny}")[1:]) == 0
    assert load_encoder("runs/cached.pt").contract == cached.contract
    record = json.loads(Path("runs/cached.json").read_text())
    assert record["steps"] == 3
    line = f"{train} {tiny} --items runs/items.parquet --tolerance 1d"
    assert "items: got 'GeoDataFrame'; allowed: not given with" in refused(capsys, line[11:])
    assert record["statistics"] == cached.attributes["statistics"]


def test_views_are_drawn_as_a_pretraining_with_that_config_sees_them(checkout, tmp_path, capsys):
    """The config is that of a pretraining, with all that a picture has no use for."""
    settings = {"items": "runs/items.parquet", "pairs": "runs/pairs.parquet", "method": "simclr"}
    settings |= {"bands": ["blue", "green", "red", "nir"], "epochs": 3, "lr": 0.1, "length": 64}
    settings |= {"patch_size": 64, "view_size": 48, "out": "runs/untrained.pt"}
    settings |= {"views": {"preset": "simclr", "views": 3, "flatten": True}, "batch_size": 16}
    config = tmp_path / "pretrain.yaml"
    config.write_text(yaml.safe_dump(settings))
    drawn = []
    for seed in (0, 0, 1):
        line = f"views --config {config} --out {tmp_path}/v.png --patches 3 --seed {seed}"
        assert main(shlex.split(line)) == 0
        assert capsys.readouterr().out == f"{tmp_path}/v.png\n"
        drawn.append(np.asarray(Image.open(tmp_path / "v.png")))
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    wide = 2 * sheet.MARGIN + 5 * (sheet.CELL + sheet.GAP) - sheet.GAP  # two dates, three views
    above, row = sheet.TITLE + 2 * sheet.NOTE, sheet.HEADING + sheet.CELL + sheet.GAP
    tall = 2 * sheet.MARGIN + above + 3 * row - sheet.GAP
    np.testing.assert_allclose(drawn[0].shape[:2], np.array([tall, wide]) * sheet.DPI, atol=2)
    assert not Path("runs/untrained.pt").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--out runs/v.jpg", ["out", "v.jpg", ".png"]),
        ("--show red,violet --out runs/v.png", ["show", "violet", "nir"]),
        ("--show red,red,nir,nir --out runs/v.png", ["show", "one, two or three"]),
        ("--views.preset simclir --out runs/v.png", ["preset", "simclir", "simclr"]),
        ("--views.colour 3 --out runs/v.png", ["views", "colour"]),
        ("--patches 0 --out runs/v.png", ["patches", "1 or more"]),
    ],
)
def test_views_that_cannot_be_drawn_get_one_line(checkout, capsys, more, words):
    line = f"views {SCENES} --bands red,nir --patch_size 32 {more}"
    text = refused(capsys, line)
    assert all(word in text for word in words), text
    assert not Path("runs/v.png").exists()


@pytest.mark.parametrize(
    ("show", "found"), [(None, [2, 1, 0]), (["nir", "red"], [3, 2]), (["nir"], [3])]
)
def test_bands_are_shown_by_name(show, found):
    assert choose_bands(["blue", "green", "red", "nir"], show) == found
    assert choose_bands(["B8", "B4", "B3", "B2"]) == [0, 1, 2]
    assert choose_bands(["vv"]) == [0]


def test_config_file_equals_options(checkout, tmp_path):
    options = {"items": "runs/items.parquet", "min_gap": 100, "max_cloud": 30, "seed": 3}
    options |= {"max_per_place": 2, "out": str(tmp_path / "a.parquet")}
    config = tmp_path / "pairs.yaml"
    config.write_text(yaml.safe_dump(options))
    assert main(["pairs", "--config", str(config)]) == 0
    words = [w for k, v in options.items() if k != "out" for w in (f"--{k}", str(v))]
    assert main(["pairs", *words, "--out", str(tmp_path / "b.parquet")]) == 0
    a, b = (read_pairs(tmp_path / f"{x}.parquet") for x in "ab")
    assert a.equals(b)


@pytest.mark.parametrize("form", ["--collections scenes,dsm", "--collections=scenes,dsm"])
def test_hyphens_and_commas(checkout, tmp_path, form):
    out = tmp_path / "items.parquet"
    line = f"search --source sample_data/catalog.json --max-items 1000 {form}"
    assert main([*shlex.split(line), "--out", str(out)]) == 0
    assert set(read_items(out)["collection"]) == {"scenes", "dsm"}


@pytest.fixture(params=[False, True], ids=["north-east", "south-west"])
def mirrored(request, checkout, tmp_path):
    """The catalog's scenes as an ItemCollection, also where coordinates have a minus."""
    sign = -1 if request.param else 1
    items = read_items("runs/items.parquet")
    items.geometry = items.scale(sign, sign, origin=(0, 0))
    path = tmp_path / "items.json"
    pystac.ItemCollection(item_dicts(items)).save_object(str(path))
    return path, items.query("place == 'east'").total_bounds.tolist()


@pytest.mark.parametrize("form", ["space", "equals", "brackets", "yaml text", "yaml list"])
def test_aoi_as_numbers(mirrored, tmp_path, form):
    source, bounds = mirrored
    out, config = tmp_path / "east.parquet", tmp_path / "search.yaml"
    text = ",".join(map(str, bounds))
    config.write_text(yaml.safe_dump({"aoi": bounds if form == "yaml list" else text}))
    words = {
        "space": ["--aoi", text],
        "equals": [f"--aoi={text}"],
        "brackets": ["--aoi", f"[{text}]"],
    }.get(form, ["--config", str(config)])
    assert main(["search", "--source", str(source), *words, "--out", str(out)]) == 0
    assert set(read_items(out)["place"]) == {"east"}


@pytest.mark.parametrize("toi", ["2022", "2022-08", "2022-08-24", "'2022'"])
def test_times_in_yaml_are_text(checkout, tmp_path, toi):
    config, out = tmp_path / "search.yaml", tmp_path / "items.parquet"
    config.write_text(f"source: sample_data/catalog.json\ntoi: {toi}\nout: {out}\n")
    assert main(["search", "--config", str(config)]) == 0
    days = read_items(out)["datetime"].dt.strftime("%Y-%m-%d")
    assert days.str.startswith(toi.strip("'")).all()


@pytest.mark.parametrize("event", ["2022-08-15", "20220815", "2022-08-15T00:00:00Z"])
def test_event_in_yaml(checkout, tmp_path, event):
    config, out = tmp_path / "pairs.yaml", tmp_path / "pairs.parquet"
    config.write_text(f"items: runs/items.parquet\nevent: {event}\nrelation: after\nout: {out}\n")
    assert main(["pairs", "--config", str(config)]) == 0
    assert read_pairs(out)["pre_datetime"].min() >= pd.Timestamp("2022-08-15")


@pytest.mark.parametrize(
    "content", [b"", b"- 1\n", b"toi: [1\n b", b"\x00\xff\x80", b"toi: {a: 1}", b"toi: 2022-02-30"]
)
def test_strange_configs_get_one_line(checkout, capsys, tmp_path, content):
    config = tmp_path / "c.yaml"
    config.write_bytes(content)
    words = "--source sample_data/catalog.json --out x"
    refused(capsys, f"search {words} --config {config}")
    assert not Path("x").exists()


@pytest.mark.parametrize("kind", ["none", "folder", "empty", "text", "table", "geo", "other"])
@pytest.mark.parametrize("option", ["items", "pairs"])
def test_strange_tables_get_one_line(checkout, capsys, tmp_path, option, kind):
    path = tmp_path / "strange.parquet"
    if kind == "folder":
        path.mkdir()
    if kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else "text")
    if kind == "table":
        pd.DataFrame({"a": [1]}).to_parquet(path)
    if kind == "geo":
        gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)]).to_parquet(path)
    if kind == "other":
        name = {"items": "pairs", "pairs": "items"}[option]
        path.write_bytes(Path(f"runs/{name}.parquet").read_bytes())
    tables = {"items": "runs/items.parquet", "pairs": "runs/pairs.parquet", option: path}
    words = f"--items {tables['items']} --pairs {tables['pairs']} --bands blue --out x"
    text = refused(capsys, f"pretrain {words}")
    assert f"{option}: got" in text
    assert "strange.parquet" in text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("serach", ["serach", "search"]),
        ("search --source nowhere.json --out x.parquet", ["source", "nowhere.json", "catalog"]),
        ("search --out x.parquet", ["source"]),
        ("search --source sample_data/catalog.json --toi 2022/2021 --out x", ["toi", "before"]),
        ("search --source sample_data/catalog.json --toi soon --out x", ["toi", "soon", "ISO"]),
        ("search --source sample_data/catalog.json --collections scens --out x", ["'scenes'"]),
        ("search --source sample_data/catalog.json --aoi 5,5,1,1 --out x", ["aoi", "xmin"]),
        ("search --source sample_data/catalog.json --aoi 0,0,1,1 --out x", ["no item", "aoi"]),
        ("search --source sample_data/catalog.json --aoi '' --out x", ["aoi"]),
        ("search --source sample_data/catalog.json extra --out x", ["extra"]),
        ("search --source", ["source"]),
        ("search --source http://127.0.0.1:1/c.json --out x", ["http://127.0.0.1:1/c.json"]),
        ("search --source sample_data/catalog.json --max_items lots --out x", ["lots", "int"]),
        ("pairs --items runs/items.parquet --min_gap -3 --out x", ["min_gap", "-3", "0 or more"]),
        ("pairs --items runs/items.parquet --max_gap 1 --min_gap 9 --out x", ["max_gap", "9"]),
        ("pairs --items runs/items.parquet --relation during --out x", ["relation", "straddle"]),
        ("pairs --items runs/items.parquet --relation before --out x", ["event", "date"]),
        ("pairs --items runs/items.parquet --max_cloud 0 --min_gap 600 --out x", ["no pair"]),
        ("pairs --items runs/items.parquet --colour red --out x", ["colour"]),
        ("pairs --items runs/nothing.parquet --out x", ["items", "nothing.parquet"]),
        ("pairs --config nothing.yaml --out x", ["config"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue,violet"
         " --out runs/e.pt", ["bands", "violet", "nir"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue --method moo"
         " --out runs/e.pt", ["method", "moo", "simclr"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue"
         " --encoder resnet81 --out runs/e.pt", ["encoder", "resnet81", "resnet18"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue"
         " --batch_size 1 --out runs/e.pt", ["batch_size", "2 or more"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue --epochs 0"
         " --out runs/e.pt", ["epochs", "1 or more"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue"
         " --method_args.colour 3 --out runs/e.pt", ["colour"]),
        ("pretrain --bands blue --out runs/e.pt", ["items", "no cache"]),
        ("pretrain --cache runs/none.zarr --out runs/e.pt", ["none.zarr", "rscontrast cache"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue"
         " --splits 0.5,0.4,0 --out runs/e.pt", ["0.4", "sum up to 1"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue"
         " --splits 1,2 --out runs/e.pt", ["splits"]),
        ("pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue"
         " --splits 0.5,0.5,0 --out runs/e.pt", ["split_block", "1.0", "smaller blocks"]),
        ("cache --items runs/items.parquet --bands blue --out x", ["pairs"]),
        ("cache --items runs/items.parquet --pairs runs/pairs.parquet --bands blue --out runs",
         ["out", "runs", "a new name"]),
        ("cache --items runs/items.parquet --pairs runs/pairs.parquet --bands blue --out x"
         " --min_valid 0.5 --per_block 2", ["min_valid", "per_block"]),
        ("cache --items runs/items.parquet --pairs runs/pairs.parquet --bands blue --out x"
         " --provider nobody", ["provider", "nobody", "earth-search"]),
        ("finetune --items runs/items.parquet --pairs runs/labelled.parquet --label damge"
         " --encoder resnet18 --bands blue --out runs/s.pt", ["label", "damge", "damage"]),
        ("finetune --items runs/items.parquet --pairs runs/labelled.parquet --label damage"
         " --encoder nowhere.pt --out runs/s.pt", ["nowhere.pt", "checkpoint"]),
        ("finetune --items runs/items.parquet --pairs runs/labelled.parquet --label damage"
         " --encoder resnet18 --bands blue --label_share 2 --out runs/s.pt", ["label_share"]),
        ("map --items runs/items.parquet --pairs runs/labelled.parquet --checkpoint no.pt"
         " --out runs/m", ["no.pt"]),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line(checkout, capsys, line, words):
    text = refused(capsys, line)
    for word in words:
        assert word in text
    assert not Path("x").exists()
    assert not list(Path().glob(".*.tmp*"))


@pytest.mark.slow
def test_ctrl_c_keeps_nothing_of_a_cache_and_says_so(checkout):
    line = (
        "cache --items runs/items.parquet --pairs runs/pairs.parquet --bands blue --patch_size 32"
        " --length 100000 --progress false --out cut/pairs.zarr"
    )
    words = [sys.executable, "-m", "rscontrast", *shlex.split(line)]
    deadline = time.monotonic() + 60
    pipe = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": heed_ctrl_c}
    with subprocess.Popen(words, **pipe) as process:
        try:
            while not Path("cut").exists() and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err[-2000:]
    assert err.splitlines()[-1] == (
        "rscontrast: interrupted; nothing was kept: a cache is written whole"
    )
    assert not list(Path("cut").iterdir())


@pytest.mark.slow
def test_ctrl_c_keeps_the_last_epoch(checkout):
    line = (
        "pretrain --items runs/items.parquet --pairs runs/pairs.parquet --bands blue,green"
        " --encoder tu-resnet10t --patch_size 32 --batch_size 4 --length 8 --epochs 10000"
        " --device cpu --progress false --out runs/long.pt"
    )
    words = [sys.executable, "-m", "rscontrast", *shlex.split(line)]
    partial, deadline = Path("runs/long.partial.pt"), time.monotonic() + 90
    pipe = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": heed_ctrl_c}
    with subprocess.Popen(words, **pipe) as process:
        try:
            while not partial.exists() and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err[-2000:]
    assert "interrupted" in err.splitlines()[-1]
    assert not Path("runs/long.pt").exists()
    assert load_encoder(partial).contract.bands == ("blue", "green")
