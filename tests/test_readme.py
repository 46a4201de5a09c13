"""The README's Python runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pystac
import pytest

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_data"


def blocks(language):
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_first_commands():
    first = re.search(r"```\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == [
        "make demo",
        "make test",
    ]


def test_example_is_short():
    script = blocks("python")[0]
    assert len([line for line in script.splitlines() if line.strip()]) <= 15


@pytest.mark.slow
def test_examples_run(tmp_path):
    (tmp_path / "sample_data").symlink_to(SAMPLE)
    script = "\n".join(blocks("python")) + "\nprint(sample['image'].shape)\n"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "torch.Size([2, 4, 64, 64])" in run.stdout
    assert "destroyed" in run.stdout
    catalog = pystac.Catalog.from_file(str(tmp_path / "runs" / "maps" / "catalog.json"))
    assert len(list(catalog.get_items())) == 2
