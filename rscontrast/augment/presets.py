"""Recipes of published methods, told for reflectance of any bands."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import lcm
from types import MappingProxyType
from typing import Any

from rscontrast.augment.blur import Blur
from rscontrast.augment.geometry import Geometry
from rscontrast.augment.jitter import Grayscale, Grey, Jitter, Solarize
from rscontrast.augment.operations import Operation
from rscontrast.augment.spectral import Gain
from rscontrast.errors import choose, height_width
from rscontrast.types import SensorContract


@dataclass(frozen=True)
class Recipe:
    """What makes views: where they lie, and what happens to their spectrum."""

    geometry: Geometry
    operations: tuple[Operation, ...]
    """In their order; see :func:`rscontrast.augment.operations.run`."""

    @property
    def period(self) -> int:
        """Views after which the probabilities repeat: the number of views is a multiple of it."""
        return lcm(*(len(op.p) for op in self.operations if isinstance(op.p, tuple)))


@dataclass(frozen=True)
class Preset:
    """A recipe but for the size of its views."""

    scale: tuple[float, float]
    operations: tuple[Operation, ...]
    source: str


_PAPER = (
    "flips left and right became all symmetries of the view (overhead imagery has no up), hue the "
    "ratio of the bands, luma an equal sum of the bands in units of their spread, 0 to 1 "
    "reflectance: reconstruction"
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "reflectance": Preset(
            (0.3, 1.0),
            (Gain(), Blur(p=0.3)),
            "ours: the default of PairViews, a reconstruction without grey and saturation",
        ),
        "simclr": Preset(
            (0.08, 1.0),
            (Jitter(0.8, 0.8, 0.8, 0.2, p=0.8), Grayscale(p=0.2), Blur((0.1, 2.0), p=0.5)),
            "SimCLR (arXiv 2002.05709, appendix A, strength 1), checked against google-research/"
            f"simclr data_util.py; {_PAPER}",
        ),
        "moco": Preset(
            (0.2, 1.0),
            (
                Jitter(0.4, 0.4, 0.4, 0.1, p=0.8),
                Grayscale(p=0.2),
                Blur((0.1, 2.0), p=0.5, kernel=None),
            ),
            "MoCo v2 (arXiv 2003.04297), checked against facebookresearch/moco main_moco.py "
            f"(--aug-plus); {_PAPER}",
        ),
        "byol": Preset(
            (0.08, 1.0),
            (
                Jitter(0.4, 0.4, 0.2, 0.1, p=0.8),
                Grayscale(p=0.2),
                Blur((0.1, 2.0), p=(1.0, 0.1)),
                Solarize(0.5, p=(0.0, 0.2)),
            ),
            "BYOL (arXiv 2006.07733, appendix B), checked against google-deepmind/deepmind-research"
            " byol/utils/augmentations.py, whose brightness is added where ours is a factor, as in "
            f"SimCLR v2; {_PAPER}",
        ),
        "false": Preset(
            (0.08, 1.0),
            (
                Jitter(0.8, 0.8, 0.8, 0.2, p=0.8),
                Grayscale(p=0.2),
                Blur((0.1, 2.0), p=0.5, kernel=None),
            ),
            "FALSE (arXiv 2211.07928), checked against GeoX-Lab/FALSE configs/config/pretrain/FALSE"
            "/false_1gpu_resnet.yaml and the transforms of VISSL that it names (crop: torchvision's"
            f" default scale); {_PAPER}",
        ),
        "seco": Preset(
            (0.2, 1.0),
            (
                Jitter(0.4, 0.4, 0.4, 0.1, p=(0.0, 0.8)),
                Grayscale(p=(0.0, 0.2)),
                Blur((0.1, 2.0), p=(0.0, 0.5), kernel=None),
            ),
            "SeCo (arXiv 2103.16607), checked against ServiceNow/seasonal-contrast datasets/"
            "seco_dataset.py: the query and the key of another date are only cropped, every other "
            "key is augmented as in MoCo v2. Of three dates four views are all of it: the query of "
            "date 0, its keys of date 1 (augmented), of date 2 and of date 0 (augmented); of two "
            f"dates two views are the query and its first key; {_PAPER}",
        ),
        "temporal": Preset(
            (0.5, 1.0),
            (Gain(gain=0.1, band_gain=0.05, offset=0.01),),
            "ours, a reconstruction: time itself is the augmentation, the rest only hides borders",
        ),
    }
)


def recipe(
    name: str, contract: SensorContract, size: int | tuple[int, int], **changes: Any
) -> Recipe:
    """Return the recipe ``name`` for views of ``size``.

    Args:
        name: a key of :data:`PRESETS`, each of which names its source.
        contract: of the images; grey is told in its statistics, see :class:`Grey`.
        size: (h, w) of a view, pixels, or one number for both.
        changes: fields of Geometry in place of the preset's, and ``operations``.

    Raises:
        InputError: an unknown name, or an unknown change.
    """
    preset = PRESETS[choose("preset", name, PRESETS)]
    operations = changes.pop("operations", preset.operations)
    for change in changes:
        choose("change", change, {*Geometry.__dataclass_fields__, "operations"} - {"size"})
    grey = Grey(mean=contract.mean, std=contract.std)
    told = (
        replace(each, grey=grey) if isinstance(each, Jitter | Grayscale) else each
        for each in operations
    )
    geometry = Geometry(height_width("size", size), preset.scale)
    return Recipe(replace(geometry, **changes), tuple(told))
