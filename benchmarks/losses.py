"""What do the image-level losses cost beside NT-Xent? Time and memory of forward and backward.

Embeddings are made by seed. All losses take turns in one run; a figure is the median over rounds,
a cost the median of the rounds' quotients by NT-Xent.

    python benchmarks/losses.py --json runs/losses.json

FALSE is also set beside two loops of Python, and PixPro's mask beside a ResNet-18's step.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from rscontrast.atomic import write_text
from rscontrast.losses import (
    LossOutput,
    debiased_contrastive,
    false_contrastive,
    false_negative_attraction,
    false_negative_elimination,
    glofnd,
    info_nce,
)

COST = 1.4
"""Of NT-Xent's time, what FALSE "nearest" may take."""
MATRICES = 2
"""Of 2N x 2N, what FALSE may hold beyond NT-Xent's peak."""
FASTER = 100
"""Than a literal loop, how many times FALSE has to be."""
SHARE = 5
"""Of a ResNet-18's step, % that PixPro's mask may take."""

type Row = dict[str, object]
type Loss = Callable[[Tensor, Tensor], LossOutput]
type Views = tuple[Tensor, Tensor]


def _glofnd(view1: Tensor, view2: Tensor) -> LossOutput:
    return glofnd(view1, view2, torch.full((len(view1),), 0.5, device=view1.device))


_false = partial(false_contrastive, confidence=0.9)
LOSSES: dict[str, Loss] = {
    "NT-Xent": info_nce,
    "FALSE nearest": partial(_false, select="nearest"),
    "FALSE nearest, symmetric": partial(_false, select="nearest", symmetric=True),
    "FALSE global": partial(_false, select="global"),
    "FALSE above": partial(_false, select="above", margin=0.2),
    "FALSE above, symmetric": partial(_false, select="above", margin=0.2, symmetric=True),
    "debiased": debiased_contrastive,
    "attraction": false_negative_attraction,
    "elimination": false_negative_elimination,
    "GloFND": _glofnd,
}


@dataclass
class Run:
    """The settings, and what came out so far."""

    options: argparse.Namespace
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        """Keep and print a row."""
        holds = None
        if most is not None or least is not None:
            holds = (most is None or value <= most) and (least is None or value >= least)
        bound = most if least is None else least
        self.rows.append(
            {"name": name, "value": value, "unit": unit, "bound": bound, "holds": holds}
        )
        print(line(self.rows[-1]), flush=True)


def main() -> None:
    options = parse()
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's own lines
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    torch.set_num_threads(options.cores)
    load, run = [os.getloadavg()[0]], Run(options)
    for measure in options.only or MEASURES:
        begun = time.perf_counter()
        MEASURES[measure](run)
        print(f"-- {measure}: {time.perf_counter() - begun:.0f} s", flush=True)
    load.append(os.getloadavg()[0])
    if options.json is not None:
        report = {"settings": settings(options) | {"load": load}, "rows": run.rows}
        write_text(options.json, json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2, help="that the benchmark is held to")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 4096], help="2N")
    parser.add_argument("--dim", type=int, default=128, help="of an embedding")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--anchors", type=int, default=8, help="of the literal loop, of all 2N")
    parser.add_argument("--images", type=int, default=16, help="of the step that is scaled to 256")
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="parts to run; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, in under a minute")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(sizes=[64, 128], rounds=3, anchors=2, images=2)
    return options


def views_of(options: argparse.Namespace, size: int) -> Views:
    """Views so alike that FALSE trusts most anchors: it does all its work."""
    generator = torch.Generator().manual_seed(options.seed)
    first = torch.randn(size // 2, options.dim, generator=generator)
    second = first + 0.3 * torch.randn(size // 2, options.dim, generator=generator)
    return first.to(options.device), second.to(options.device)


def step(loss: Callable[[Tensor, Tensor], LossOutput | Tensor], views: Views) -> None:
    """Forward and backward."""
    found = loss(*(view.clone().requires_grad_() for view in views))
    (found.loss if isinstance(found, LossOutput) else found).backward()


def seconds(what: Callable[[], object], device: str) -> float:
    begun = time.perf_counter()
    what()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


# Time.


def cost(run: Run) -> None:
    """Forward and backward of each, by turns."""
    for size in run.options.sizes:
        views = views_of(run.options, size)
        taken: dict[str, list[float]] = {name: [] for name in LOSSES}
        for round_ in range(run.options.rounds + 1):
            for name, loss in LOSSES.items():
                one = seconds(partial(step, loss, views), run.options.device)
                if round_:  # in the first one memory is asked for
                    taken[name].append(one)
        for name, each in taken.items():
            run.add(f"{size}: {name}", 1e3 * float(np.median(each)), "ms")
        for name in list(LOSSES)[1:]:
            quotient = float(np.median(np.divide(taken[name], taken["NT-Xent"])))
            most = COST if name == "FALSE nearest" else None
            run.add(f"{size}: {name} to NT-Xent", quotient, "times", most=most)


# Memory.


def memory(run: Run) -> None:
    """Peak of what is allocated in forward and backward, in matrices of 2N x 2N float32."""
    for size in run.options.sizes:
        views = views_of(run.options, size)
        peaks = {}
        for name, loss in LOSSES.items():
            step(loss, views)
            measured = on_gpu if run.options.device == "cuda" else on_cpu
            peaks[name] = measured(partial(step, loss, views))
        for name, peak in peaks.items():
            run.add(f"{size}: peak of {name}", peak / (4 * size**2), "matrices")
        for name in list(LOSSES)[1:]:
            beyond = (peaks[name] - peaks["NT-Xent"]) / (4 * size**2)
            most = MATRICES if name.startswith("FALSE") else None
            run.add(f"{size}: {name} beyond NT-Xent", beyond, "matrices", most=most)


def on_cpu(what: Callable[[], object]) -> float:
    """Peak of the running sum over all that torch allocates and frees, inside operations too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        what()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]"]
    changes.sort(key=lambda event: event["ts"])
    return float(np.cumsum([event["args"]["Bytes"] for event in changes]).max())


def on_gpu(what: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    what()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before)


# Beside loops of Python.


def loop(run: Run) -> None:
    """FALSE "nearest" beside a loop over anchors, literal or with one vector an anchor."""
    options, size = run.options, run.options.sizes[0]
    views = views_of(options, size)
    nearest = LOSSES["FALSE nearest"]
    once = partial(seconds, partial(step, nearest, views), options.device)
    mine = float(np.median([once() for _ in range(options.rounds + 1)][1:]))
    few = partial(literal, anchors=options.anchors)
    some = seconds(partial(step, few, views), options.device)
    rows = seconds(partial(step, by_rows, views), options.device)
    run.add(f"{size}: literal loop", 1e3 * some * size / options.anchors, "ms")
    run.add(f"{size}: loop of vectors", 1e3 * rows, "ms")
    faster = some * size / options.anchors / mine
    least = None if options.quick else FASTER
    run.add(f"{size}: FALSE nearest to a literal loop", faster, "ratio", least=least)
    run.add(f"{size}: FALSE nearest to a loop of vectors", rows / mine, "ratio")


def literal(view1: Tensor, view2: Tensor, *, anchors: int) -> Tensor:
    """Anchor by anchor and negative by negative, of some of the anchors."""
    z = list(torch.nn.functional.normalize(torch.cat([view1, view2]), dim=1))
    total = z[0].new_zeros(())
    for i in range(anchors):
        partner = (i + len(view1)) % len(z)
        positive = z[i] @ z[partner]
        signal, negative = torch.exp(positive / 0.5), z[0].new_zeros(())
        cosines = {j: z[i] @ z[j] for j in range(len(z)) if j not in (i, partner)}
        chosen = min(cosines, key=lambda j: abs((cosines[j] - positive).item()))
        for j, cosine in cosines.items():
            s = torch.exp(cosine / 0.5)
            share = 0.9 if j == chosen and positive.item() >= 0.9 else 0.0
            signal, negative = signal + share * s, negative + (1 - share) * s
        total = total - torch.log(signal / (signal + negative))
    return total / len(z)


def by_rows(view1: Tensor, view2: Tensor) -> Tensor:
    """Anchor by anchor, with all its negatives at once."""
    z = torch.nn.functional.normalize(torch.cat([view1, view2]), dim=1)
    total = z.new_zeros(())
    for i in range(len(z)):
        partner = (i + len(view1)) % len(z)
        logits = z @ z[i] / 0.5
        others = torch.ones(len(z), dtype=torch.bool, device=z.device)
        others[[i, partner]] = False
        distance = (logits.detach() - logits[partner].detach()).abs().masked_fill(~others, 9)
        share = torch.zeros_like(distance)
        share[distance.argmin()] = 0.9 * float(logits[partner].item() >= 0.9 / 0.5)
        share[partner] = 1
        everything = logits.exp() * (others | (share == 1))
        total = total - torch.log((share * logits.exp()).sum() / everything.sum())
    return total / len(z)


# PixPro's mask.


def mask(run: Run) -> None:
    """Positives of 256 pairs of 7 x 7 cells beside a ResNet-18's step on 256 images."""
    from torchgeo.models import resnet18

    from rscontrast.losses import cell_positives

    options, device = run.options, run.options.device
    generator = torch.Generator().manual_seed(options.seed)
    # (x1, y1, x2, y2): crops of 0.2 to 1 of the patch's side.
    least = 0.4 * torch.rand(2, 256, 2, generator=generator)
    most = 0.6 + 0.4 * torch.rand(2, 256, 2, generator=generator)
    query, key = torch.cat([least, most], dim=2).to(device)
    model = resnet18(in_chans=4, num_classes=128).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images = torch.rand(options.images, 4, 224, 224, generator=generator).to(device)

    def train() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    def positives() -> Tensor:
        return cell_positives(query, key, (7, 7), (7, 7))

    made = [seconds(positives, device) for _ in range(options.rounds + 1)][1:]
    rounds = min(3, options.rounds)
    stepped = [seconds(train, device) for _ in range(rounds + 1)][1:]
    step_256 = float(np.median(stepped)) * 256 / options.images
    run.add("mask: 256 pairs of 7 x 7 cells", 1e3 * float(np.median(made)), "ms")
    run.add("mask: ResNet-18 step on 256 images", 1e3 * step_256, "ms")
    run.add("mask: to the step", 100 * float(np.median(made)) / step_256, "%", most=SHARE)


MEASURES = {"cost": cost, "memory": memory, "loop": loop, "mask": mask}


# The table.


def line(row: Row) -> str:
    bound = "" if row["bound"] is None else f"{row['bound']:g}"
    holds = {None: "", True: "yes", False: "NO"}[row["holds"]]
    return f"{row['name']:45} {row['value']:12.3f} {row['unit']:8} {bound:>5}  {holds}"


def settings(options: argparse.Namespace) -> dict[str, object]:
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    versions = {name: version(name) for name in ("rscontrast", "torch", "numpy", "torchgeo")}
    return kept | versions | {"python": platform.python_version(), "machine_cores": os.cpu_count()}


if __name__ == "__main__":
    main()
