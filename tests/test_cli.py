"""The command line: examples that work, YAML, and one clear line for bad input."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pystac
import pytest
import yaml

from rscontrast.cli import COMMANDS, main
from rscontrast.models import load_encoder
from rscontrast.stac import read_items, read_pairs
from tests.interrupt import heed_ctrl_c

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
    assert record["steps"] == 2
    assert not list(Path("runs").glob("*.partial*"))
    for name in ("evaluate", "map"):
        line = f"{COMMANDS[name].examples[0]} --patch_size 64 --overlap 8 --progress false"
        assert main(shlex.split(line)[1:]) == 0
    assert "destroyed" in capsys.readouterr().out
    assert set(json.loads(Path("runs/scores.json").read_text())) >= {"all"}
    catalog = pystac.Catalog.from_file("runs/maps/catalog.json")
    assert len(list(catalog.get_items())) == 2


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


def test_hyphens_and_commas(checkout, tmp_path):
    out = tmp_path / "items.parquet"
    line = "search --source sample_data/catalog.json --max-items 3 --collections scenes,dsm"
    assert main([*shlex.split(line), "--out", str(out)]) == 0
    assert len(read_items(out)) == 3


def test_aoi_as_numbers(checkout, tmp_path):
    east = read_items("runs/items.parquet").query("place == 'east'")
    bounds = ",".join(map(str, east.total_bounds))
    out = tmp_path / "east.parquet"
    line = f"search --source sample_data/catalog.json --aoi={bounds} --out {out}"
    assert main(shlex.split(line)) == 0
    assert set(read_items(out)["place"]) == {"east"}


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
