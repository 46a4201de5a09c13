"""A disk that fills up: nothing half-written under a final name, one clear error.

The limit on a file's size of a child process stands in for the disk: writes fail in the same way.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SETUP = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from rscontrast.errors import WriteError
from rscontrast.stac import pair_items, search, write_items, write_pairs
items = search({catalog!r}, collections=["scenes"])

def full(write, path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        write(path)
    except WriteError as error:
        print("WriteError", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""

WRITES = {
    "items.parquet": "full(lambda path: write_items(items, path), sys.argv[1])",
    "pairs.parquet": "full(lambda path: write_pairs(pair_items(items), path), sys.argv[1])",
    "encoder.pt": """
from rscontrast.models import create_encoder, save_encoder
from rscontrast.types import SensorContract
encoder, contract = create_encoder("tu-resnet10t", 1), SensorContract(("a",), 1.0, (0.0,), (1.0,))
full(lambda path: save_encoder(path, encoder, "tu-resnet10t", contract), sys.argv[1])
""",
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("former", [False, True])
def test_a_full_disk_leaves_what_was_there(name, former, tmp_path):
    path = tmp_path / name
    if former:
        path.write_bytes(b"before")
    script = SETUP.format(catalog=str(ROOT / "sample_data" / "catalog.json")) + WRITES[name]
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert "WriteError" in run.stdout, run.stderr[-2000:]
    assert name in run.stdout
    assert [p.name for p in tmp_path.iterdir()] == ([name] if former else [])
    assert not former or path.read_bytes() == b"before"
