"""Holes between small things that stay go back to the system."""

import subprocess
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest

from rscontrast.io import trim

HOLES = """
from pathlib import Path
from rscontrast.io.trim import EVERY, LOOKS, note_block

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

for _ in range(EVERY):
    note_block()
stay, large = [], []
for n in range(1500):
    large.append(bytearray(90_000))
    stay.append(bytearray(700))
held = resident()
large.clear()
for _ in range(EVERY * LOOKS - 1):
    note_block()
before = resident()
note_block()
print(held, before, resident())
"""


def test_many_threads_look(monkeypatch):
    """One trims at each look, while the others note theirs."""
    monkeypatch.setattr(trim, "EVERY", 1)
    monkeypatch.setattr(trim, "LOOKS", 1)
    monkeypatch.setattr(trim, "GROWTH", -(2**50))
    monkeypatch.setattr(trim, "_looks", deque(maxlen=1))
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(trim.note_block) for _ in range(2000)]:
            done.result()


@pytest.mark.skipif(trim._trim is None, reason="this C library hands nothing back when told to")
def test_holes_are_handed_back_where_a_process_has_grown():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    held, before, after = map(int, done.stdout.split())
    assert held - before < 20e6  # the holes are still there
    assert before - after > 100e6
