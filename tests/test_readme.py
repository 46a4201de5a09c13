"""The Python and the commands of the README and of the page on loading run as they stand."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pystac
import pytest

from rscontrast.cli import COMMANDS
from rscontrast.datasets import CachedPairs

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_data"
LOADING = "docs/loading.md"


def blocks(language, page="README.md"):
    text = (ROOT / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_first_commands():
    first = re.search(r"```\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == [
        "make demo",
        "make test",
    ]


def test_every_command_is_named():
    told = re.search(r"The same stages are commands.*?\n\n", (ROOT / "README.md").read_text(), re.S)
    assert re.findall(r"`(?:rscontrast )?([a-z]+)`", told[0]) == list(COMMANDS)


def test_example_is_short():
    script = blocks("python")[0]
    assert len([line for line in script.splitlines() if line.strip()]) <= 15


def run(*words, folder):
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_examples_run(tmp_path):
    (tmp_path / "sample_data").symlink_to(SAMPLE)
    script = "\n".join(blocks("python")) + "\nprint(sample['image'].shape)\n"
    told = run("-c", script, folder=tmp_path)
    assert "torch.Size([2, 4, 64, 64])" in told
    assert "destroyed" in told
    catalog = pystac.Catalog.from_file(str(tmp_path / "runs" / "maps" / "catalog.json"))
    assert len(list(catalog.get_items())) == 2


@pytest.mark.slow
def test_the_page_on_loading_runs(tmp_path):
    (tmp_path / "sample_data").symlink_to(SAMPLE)
    (script,) = blocks("python", LOADING)
    told = run("-c", f"{script}\nprint(batch['image'].shape)", folder=tmp_path)
    assert told == "torch.Size([32, 2, 4, 64, 64])\n"
    (commands,) = blocks("sh", LOADING)
    for line in commands.replace("\\\n", " ").splitlines():
        run("-m", *shlex.split(line), folder=tmp_path)
    cached = CachedPairs(tmp_path / "runs" / "pairs.zarr")
    assert len(cached) == 128
    assert (tmp_path / "runs" / "encoder.pt").is_file()
    assert 128 * cached[0]["image"].nbytes == 16_777_216  # the page: 17 MB
