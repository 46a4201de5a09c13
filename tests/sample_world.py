"""What several test folders ask of the sample world and of Lightning."""

from functools import cache
from pathlib import Path

import lightning
import rasterio

from rscontrast.stac import pair_items, search
from rscontrast.types import SensorContract

ROOT = Path(__file__).parents[1]
CATALOG = ROOT / "sample_data" / "catalog.json"
BANDS = ("blue", "green", "red", "nir")
EVENT = "2022-08-15"
CONTRACT = SensorContract(BANDS, 2.5, (0.06, 0.08, 0.09, 0.25), (0.03, 0.03, 0.04, 0.1))


@cache
def _items():
    return search(CATALOG, collections=["scenes"])


def scenes(ids=None):
    """Items of the scenes, or those named."""
    frame = _items()
    return frame.copy() if ids is None else frame[frame["id"].isin(ids)].reset_index(drop=True)


def event_pairs():
    """One pair a place, across the event: row 0 is east, row 1 west."""
    return pair_items(_items(), event=EVENT, relation="straddle", max_cloud=20, max_gap=60).frame()


def asset(name, key):
    """(path, scale, offset) of one band of one item."""
    frame = _items()
    entry = frame[frame["id"] == name].iloc[0]["assets"][key]
    band = (entry.get("bands") or [{}])[0]
    return entry["href"], band.get("raster:scale", 1.0), band.get("raster:offset", 0.0)


def pixels(path, index=1):
    with rasterio.open(path) as source:
        return source.read(index)


def trainer(folder, **arguments):
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "limit_val_batches": 0,
    }
    return lightning.Trainer(**{**quiet, **arguments})
