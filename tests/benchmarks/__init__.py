"""Each benchmark in small sizes; one a file, so that they share the machine's cores."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def quick(name, folder, *options):
    """Run a benchmark in small sizes: its rows by name, its settings, what it printed."""
    file = folder / "rows.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--json", str(file)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert all(set(row) == {"name", "value", "unit", "bound", "holds"} for row in rows.values())
    assert report["settings"]["seed"] == 0
    return rows, report["settings"], done.stdout
