"""What the tests of several layers share."""

from pathlib import Path

import pytest

from rscontrast.stac import search
from tests.world import World

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def sample_catalog():
    return ROOT / "sample_data" / "catalog.json"


@pytest.fixture(scope="session")
def sample_items(sample_catalog):
    """Every scene of the sample world; copy before changing it."""
    return search(sample_catalog, collections=["scenes"])


@pytest.fixture(scope="session")
def oscd_catalog():
    path = ROOT.parent / "shared" / "data" / "oscd" / "catalog.json"
    if not path.is_file():
        pytest.skip("the OSCD cities are not beside the checkout (../shared/data/oscd)")
    return path


@pytest.fixture(scope="session")
def metadata_folder():
    """Real items without their imagery."""
    path = ROOT.parent / "shared" / "data" / "stac"
    if not path.is_dir():
        pytest.skip("the items' metadata are not beside the checkout (../shared/data/stac)")
    return path


@pytest.fixture(scope="session")
def maxar_items(metadata_folder):
    """Scenes of 54 disasters; copy before changing it."""
    return search(metadata_folder / "maxar_events.parquet")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)
