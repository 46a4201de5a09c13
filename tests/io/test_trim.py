"""Holes between small things that stay go back to the system."""

import subprocess
import sys
import time
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


class Held(deque):
    """Lets other threads run right after something was put in."""

    def append(self, look):
        super().append(look)
        time.sleep(1e-3)


def test_many_threads_look(monkeypatch):
    """One trims at each look; none clears what another has just noted."""
    for name, value in {"EVERY": 1, "LOOKS": 1, "GROWTH": -(2**50)}.items():
        monkeypatch.setattr(trim, name, value)
    monkeypatch.setattr(trim, "_looks", Held(maxlen=1))
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(trim.note_block) for _ in range(400)]:
            done.result()


@pytest.mark.skipif(trim._trim is None, reason="this C library hands nothing back when told to")
def test_holes_are_handed_back_where_a_process_has_grown():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    held, before, after = map(int, done.stdout.split())
    assert held - before < 20e6  # the holes are still there
    assert before - after > 100e6
