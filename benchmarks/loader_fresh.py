"""What is measured in a process of its own: the cold start, and memory.

    python benchmarks/loader_fresh.py cold|threads|fork|spawn JOB

One line of JSON comes out.
"""

import json
import multiprocessing
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

MB = 1e6
BATCH = 8


def main() -> None:
    name, job = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps({"cold": cold, "bare": bare}.get(name, memory)(job, name)))


def cold(job: dict, _: str) -> dict[str, float]:
    """From the end of the imports to the pixels: of one date, and of a batch of drawn pairs."""
    begun = time.perf_counter()
    import rscontrast.datasets

    imported = time.perf_counter()
    import pandas as pd

    from rscontrast.stac import read_items

    items = read_items(job["items"])
    dataset = rscontrast.datasets.STACDataset(items, bands=job["bands"])
    x, y = (slice(a, a + job["side"]) for a in job["corner"])
    start = pd.Timestamp(job["day"])
    image = dataset[x, y, slice(start, start + pd.Timedelta("1D"))]["image"]
    seconds = time.perf_counter() - imported
    if not image.any() or len(items) != job["count"]:
        raise SystemExit("the patch is empty")
    return {"imports": imported - begun, "seconds": seconds}


# Memory.


def bare(_: dict, __: str) -> dict[str, float]:
    import torch  # noqa: F401  # what importing costs is what is asked
    import torchgeo.datasets  # noqa: F401

    return {"imports": own("self")}


def memory(job: dict, method: str) -> dict[str, object]:
    """Random pairs over many scenes; the memory of the loader's process or of its workers."""
    import torch  # noqa: F401  # the bare process has imported all
    import torchgeo.datasets  # noqa: F401
    from torchgeo.datasets import stack_samples  # noqa: F401

    import rscontrast.datasets
    from rscontrast.loader import PairLoader
    from rscontrast.stac import read_items

    before = resident()
    dataset = rscontrast.datasets.TemporalPairDataset(
        rscontrast.datasets.STACDataset(read_items(job["items"]), bands=job["bands"])
    )
    workers = {} if method == "threads" else {"num_workers": 2, "multiprocessing_context": method}
    loader = PairLoader(dataset, batch_size=BATCH, sampler=random_slices(job), **workers)
    watch = Watch(of_workers=bool(workers))
    begun = time.perf_counter()
    with watch:
        for number, _ in enumerate(loader, 1):
            watch.done = number * BATCH / job["pairs"]
    return watch.report(before) | {"seconds": time.perf_counter() - begun}


def random_slices(job: dict) -> list[tuple]:
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(job["seed"])
    (left, bottom), side, room = job["corner"], job["side"], job["room"]
    starts, day = pd.to_datetime(job["days"]), pd.Timedelta("1D")
    times = [slice(start, start + day - pd.Timedelta("1us")) for start in starts]

    slices = []
    for _ in range(job["pairs"]):
        x, y = (start + 10 * random.integers(room) for start in (left, bottom))
        pre, post = np.sort(random.choice(len(times), 2, replace=False))
        slices.append((slice(x, x + side), slice(y, y + side), (times[pre], times[post])))
    return slices


@dataclass
class Watch:
    """Looks at the memory five times a second while patches are read."""

    of_workers: bool
    done: float = 0.0
    """Share of the patches."""
    seen: list[tuple[float, float]] = field(default_factory=list)
    """Share done, and bytes: of this process, or of the largest worker."""

    def __enter__(self) -> None:
        """Begin to look."""
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop.set()
        self.thread.join()

    def look(self) -> None:
        """Note the memory until told to stop."""
        while not self.stop.wait(0.2):
            if not self.of_workers:
                self.seen.append((self.done, resident()))
                continue
            pids = [str(child.pid) for child in multiprocessing.active_children()]
            sizes = [size for size in map(own, pids) if size]
            if sizes:
                self.seen.append((self.done, max(sizes)))

    def report(self, before: float) -> dict[str, float]:
        """Peak, and the growth between the second and the last quarter, bytes."""
        most = max(size for _, size in self.seen)
        quarters = [
            [size for done, size in self.seen if low <= done <= low + 0.25] for low in (0.25, 0.75)
        ]
        second, last = (sum(sizes) / max(1, len(sizes)) for sizes in quarters)
        return {"peak": most - (0 if self.of_workers else before), "growth": last - second}


def resident() -> float:
    """Bytes of this process in memory."""
    return _sum("/proc/self/status", "VmRSS:")


def own(pid: str) -> float:
    """Bytes of a process that are no file's; 0 where it has ended.

    Not those that the system calls private: pages of a library, or of a parent, become so when
    another process lets go of them, or has them taken away while it waits.
    """
    try:
        return _sum(f"/proc/{pid}/status", "RssAnon:", "RssShmem:")
    except (OSError, ProcessLookupError):
        return 0


def _sum(path: str, *names: str) -> float:
    lines = Path(path).read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(names))


def fresh(name: str, job: dict) -> dict[str, float]:
    """Run one of these in a new process."""
    command = [sys.executable, __file__, name, json.dumps(job)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if out.returncode:
        raise SystemExit(f"{name}: failed, see above")
    return json.loads(out.stdout)


if __name__ == "__main__":
    main()
