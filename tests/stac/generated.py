"""Items of two collections, drawn from a seed: times, clouds, footprints, gaps in all of them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import shapely
import shapely.affinity

FIRST = datetime(2020, 1, 1, tzinfo=UTC)


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def collection(name: str) -> dict[str, Any]:
    extent = {
        "spatial": {"bbox": [[-180, -90, 180, 90]]},
        "temporal": {"interval": [[stamp(FIRST), None]]},
    }
    head = {"type": "Collection", "id": name, "stac_version": "1.0.0", "description": name}
    return {**head, "license": "other", "extent": extent, "links": []}


def optical(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Many of one time; clouds from 0 to 100, and unknown; platforms a and b."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        time = FIRST + timedelta(days=int(rng.integers(0, count // 3)), hours=10)
        properties: dict[str, Any] = {"datetime": stamp(time), "platform": f"s{rng.integers(3)}"}
        if rng.random() < 0.9:
            properties["eo:cloud_cover"] = round(float(rng.uniform(0, 100)), 1)
        items.append(_item("optical", number, properties, rng))
    return items


def radar(count: int, seed: int = 2) -> list[dict[str, Any]]:
    """A third of them of a period in place of a datetime."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        time = FIRST + timedelta(minutes=int(rng.integers(0, 60 * 24 * 700)))
        properties: dict[str, Any] = {"datetime": stamp(time)}
        if number % 3 == 0:
            end = time + timedelta(days=int(rng.integers(0, 40)))
            period = {"start_datetime": stamp(time), "end_datetime": stamp(end)}
            properties = {"datetime": None, **period}
        properties["sat:orbit_state"] = ["ascending", "descending"][int(rng.integers(2))]
        items.append(_item("radar", number, properties, rng))
    return items


def _item(
    name: str, number: int, properties: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    x, y = rng.uniform([-170, -70], [170, 70])
    box = shapely.box(x - 1.5, y - 1, x + 1.5, y + 1)
    footprint = shapely.affinity.rotate(box, float(rng.uniform(0, 90)))
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"{name}-{number:04d}",
        "collection": name,
        "bbox": list(footprint.bounds),
        "geometry": json.loads(shapely.to_geojson(footprint)),
        "properties": properties,
        "links": [],
        "assets": {"data": {"href": f"https://example.invalid/{name}/{number}.tif"}},
    }
