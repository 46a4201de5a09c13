"""Where a band of an item lies in its assets, and how its numbers become reflectance.

Reads STAC 1.1 (`bands`) and 1.0 (`eo:bands`, `raster:bands`) alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rscontrast.errors import BandError

type Asset = Mapping[str, Any]


@dataclass(frozen=True)
class BandSource:
    """One band of one item: the file, the band in it, and the meaning of its numbers."""

    item: str
    """Id of the item, for messages."""
    asset: str
    """Key of the asset, for messages."""
    href: str
    """Where the file is: a local path or a URL."""
    index: int = 1
    """Band in the file, from 1."""
    scale: float = 1.0
    """Reflectance = number * scale + offset."""
    offset: float = 0.0
    """See ``scale``; in reflectance."""
    nodata: float | None = None
    """Value that means no data; None: what the file says."""


@dataclass(frozen=True)
class Provider:
    """The habits of a catalog's publisher. Later providers add an endpoint and signing."""

    name: str
    """Short name."""
    mask_roles: tuple[str, ...] = ("cloud", "cloud-shadow")
    """Roles of assets whose non-zero pixels are not usable."""

    def band(self, item: str, assets: Mapping[str, Asset], name: str) -> BandSource:
        """Find ``name``: an asset key, a band name or a common name, in this order.

        Args:
            item: id of the item.
            assets: its assets, by key.
            name: the band that is asked for.

        Raises:
            BandError: no asset has it; lists what the item has.
        """
        if name in assets:
            return _source(item, name, assets[name], 0)
        for key, asset in assets.items():
            for position, band in enumerate(_bands(asset)):
                if name in (band.get("name"), band.get("eo:common_name"), band.get("common_name")):
                    return _source(item, key, asset, position)
        known = sorted({*assets, *_band_names(assets)})
        raise BandError(f"bands of item {item}", name, f"one of {', '.join(known)}")

    def masks(self, item: str, assets: Mapping[str, Asset]) -> list[BandSource]:
        """Rasters of the item that mark unusable pixels with a value other than 0."""
        wanted = set(self.mask_roles)
        return [
            _source(item, key, asset, 0)
            for key, asset in assets.items()
            if wanted & set(asset.get("roles") or ())
        ]


GENERIC = Provider("generic")
"""Any catalog that follows STAC's common metadata."""


def _bands(asset: Asset) -> list[dict[str, Any]]:
    """Describe each band by what any of the three conventions says of it."""
    lists = [asset.get(key) or [] for key in ("raster:bands", "eo:bands", "bands")]
    merged: list[dict[str, Any]] = [{} for _ in range(max(map(len, lists)))]
    for bands in lists:
        for into, band in zip(merged, bands, strict=False):
            into.update({key: value for key, value in band.items() if value is not None})
    return merged


def _band_names(assets: Mapping[str, Asset]) -> Iterator[str]:
    for asset in assets.values():
        for band in _bands(asset):
            yield from (
                band[key] for key in ("name", "eo:common_name", "common_name") if key in band
            )


def _source(item: str, key: str, asset: Asset, position: int) -> BandSource:
    bands = _bands(asset)
    fields = {**asset, **(bands[position] if position < len(bands) else {})}

    def first(*names: str) -> Any:
        return next((fields[name] for name in names if fields.get(name) is not None), None)

    scale, offset = first("raster:scale", "scale"), first("raster:offset", "offset")
    nodata = first("nodata")
    return BandSource(
        item=item,
        asset=key,
        href=str(asset["href"]),
        index=position + 1,
        scale=1.0 if scale is None else float(scale),
        offset=0.0 if offset is None else float(offset),
        nodata=None if nodata is None else float(nodata),
    )
