"""A publisher's habits: where a band lies in the assets, what its numbers mean, what hides it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rscontrast.errors import BandError, InputError
from rscontrast.stac.signing import Signer
from rscontrast.stac.source import Asset, BandSource, MaskRule, MaskSource, bands_of
from rscontrast.stac.sources.http import Policy

type Row = Mapping[str, Any]


@dataclass(frozen=True)
class OffsetRule:
    """An offset that begins with a version of the processing, as Sentinel-2's does with 04.00."""

    version: str
    """Property with the version, text that sorts by age: "s2:processing_baseline"."""
    since: str
    """First version with the offset."""
    offset: float
    """Added to the reflectance."""
    applied: str = ""
    """Property that is true where the publisher has added it already; it goes before all else."""

    def __call__(self, row: Row) -> float | None:
        """Offset of an item; None where it does not tell its version."""
        if self.applied and str(row.get(self.applied)).lower() == "true":
            return 0.0
        version = row.get(self.version)
        if not _given(version):
            return None
        try:
            return self.offset if float(str(version)) >= float(self.since) else 0.0
        except ValueError as error:
            allowed = f"a version such as {self.since}"
            raise InputError(f"{self.version} of item {row['id']}", version, allowed) from error


@dataclass(frozen=True)
class Product:
    """What the items of some collections have in common beyond what they say themselves."""

    collections: tuple[str, ...] = ()
    """Their ids; empty: every collection that no other product names."""
    bands: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Asset key of each name; only these assets hold reflectance."""
    scale: float | None = None
    """Of reflectance where an item says none."""
    offset: float | None = None
    """Of reflectance where an item says none."""
    nodata: float | None = None
    """Of reflectance where an item says none."""
    shift: OffsetRule | None = None
    """Decides over the offset of reflectance, whatever an item says."""
    masks: Mapping[str, MaskRule] = field(default_factory=dict, hash=False)
    """Rule of each mask by asset key; those that an item has are used."""
    roles: tuple[str, ...] = ()
    """Roles of further masks, whose numbers other than 0 mark unusable pixels."""


@dataclass(frozen=True)
class Provider:
    """The habits of a catalog's publisher."""

    name: str
    """Short name."""
    endpoint: str | None = None
    """URL of the API or the catalog."""
    signer: Signer | None = None
    """Who signs the links of the assets, when they are read."""
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Sent with every request of a search: a key, say."""
    policy: Policy = field(default_factory=Policy)
    """How long a search waits for an answer, and how often it asks again."""
    products: tuple[Product, ...] = (Product(),)
    """What to know of the collections."""
    place: tuple[tuple[str, ...], ...] = ()
    """Properties that name a cell of the native grid together; the first that an item has."""

    def product(self, row: Row) -> Product:
        """What is known of an item's collection."""
        named = [p for p in self.products if row.get("collection") in p.collections]
        return next(iter((*named, *(p for p in self.products if not p.collections))), Product())

    def band(self, row: Row, name: str) -> BandSource:
        """Find ``name``: an asset key, a name of the provider's table, a band, a common name.

        A band that several assets have is taken from the one with the fewest bands, since a
        picture made for the eye often names the bands that it was made of.

        Args:
            row: of the items' frame.
            name: the band that is asked for.

        Raises:
            BandError: no asset has it; lists what the item has.
        """
        assets, product = row["assets"], self.product(row)
        for key in (name, product.bands.get(name, name)):
            if key in assets:
                return self._source(row, key, 0)
        slots = sorted(_slots(assets), key=lambda slot: len(bands_of(assets[slot[0]])))
        for fields in (("name",), ("eo:common_name", "common_name")):
            for key, position, band in slots:
                if name in (band.get(field) for field in fields):
                    return self._source(row, key, position)
        table = {name for name, key in product.bands.items() if key in assets}
        known = sorted({*assets, *table, *_band_names(assets)})
        raise BandError(f"bands of item {row['id']}", name, f"one of {', '.join(known)}")

    def masks(self, row: Row) -> tuple[MaskSource, ...]:
        """Rasters of the item that mark unusable pixels, each with its rule.

        An asset that is ``data`` besides its role holds a quantity, such as a probability, and is
        a mask only if the provider has a rule for it.
        """
        product = self.product(row)
        rules = {key: rule for key, rule in product.masks.items() if key in row["assets"]}
        for key, asset in row["assets"].items():
            found = set(asset.get("roles") or ())
            if found & set(product.roles) and "data" not in found:
                rules.setdefault(key, MaskRule())
        sources = {key: self._source(row, key, 0) for key in rules}
        return tuple(MaskSource(**vars(sources[key]), rule=rule) for key, rule in rules.items())

    def _source(self, row: Row, key: str, position: int) -> BandSource:
        asset, product = row["assets"][key], self.product(row)
        bands = bands_of(asset)
        fields = {**asset, **(bands[position] if position < len(bands) else {})}
        reflectance = key in product.bands.values()

        def number(default: float | None, *names: str) -> float | None:
            said = (fields[name] for name in names if fields.get(name) is not None)
            return next(map(float, said), default if reflectance else None)

        scale = number(product.scale, "raster:scale", "scale")
        offset = number(product.offset, "raster:offset", "offset")
        shift = product.shift(row) if reflectance and product.shift else None
        return BandSource(
            item=str(row["id"]),
            asset=key,
            href=str(asset["href"]),
            index=position + 1,
            scale=1.0 if scale is None else scale,
            offset=shift if shift is not None else offset or 0.0,
            nodata=number(product.nodata, "nodata"),
            signer=self.signer,
        )


def _given(value: Any) -> bool:
    """Whether a cell of the frame holds something: not None, not NaN."""
    return value is not None and value == value


def _slots(assets: Mapping[str, Asset]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for key, asset in assets.items():
        for position, band in enumerate(bands_of(asset)):
            yield key, position, band


def _band_names(assets: Mapping[str, Asset]) -> Iterator[str]:
    for _, _, band in _slots(assets):
        yield from (band[k] for k in ("name", "eo:common_name", "common_name") if k in band)
