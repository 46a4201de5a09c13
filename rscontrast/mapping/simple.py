"""The outputs of a run by the pairwise mapper: what stands in until there is better."""

from collections.abc import Sequence
from pathlib import Path

from rscontrast.mapping.job import Result, Settings
from rscontrast.mapping.native import PairJob
from rscontrast.mapping.pairwise import _item, _write_catalog
from rscontrast.mapping.planned import Plan
from rscontrast.models.checkpoint import load_segmenter


def finish(folder: Path, plan: Plan, settings: Settings, results: Sequence[Result]) -> None:
    """Write the catalog."""
    names = load_segmenter(settings.checkpoint).class_names
    done = {result.id for result in results}
    pairs = [PairJob(j.id, j.pre, j.post, j.geobox, j.aoi) for j in plan.jobs if j.id in done]
    items = {pair.name: _item(pair, names, settings.checkpoint) for pair in pairs}
    for name in items:
        _write_catalog(items, name, folder / "catalog.json")
