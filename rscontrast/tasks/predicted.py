"""Embeddings with the place and the date that they are of."""

from collections.abc import Callable

from torch import Tensor
from torchgeo.datasets.utils import Sample

from rscontrast.augment.layout import as_dates, usable
from rscontrast.errors import InputError

type Embedded = dict[str, Tensor]
"""``embedding`` [R, E] float32, ``date`` [R], ``outline`` [R, K, 2] and ``valid_share`` [R]."""


def embed_batch(encode: Callable[[Tensor], Tensor], batch: Sample, in_channels: int) -> Embedded:
    """Embed each date of each patch.

    Args:
        encode: images [N, C, H, W] to embeddings [N, E].
        batch: ``image`` [B, C, H, W], [B, D, C, H, W] or [B, D * C, H, W], normalised;
            ``outline`` [B, K, 2], longitude and latitude; ``dates`` [B, D], unix seconds; and
            ``valid`` [B, D, H, W] where known.
        in_channels: C.

    Returns:
        R = B * D rows, the dates of a patch one after the other, on the CPU.

    Raises:
        InputError: the batch does not say where and when it is.
    """
    missing = [name for name in ("outline", "dates") if name not in batch]
    if missing:
        allowed = "image, outline and dates, as the prediction batches of PairDataModule"
        raise InputError("batch", f"no {' and no '.join(missing)}", allowed)
    images = as_dates(batch["image"], in_channels)
    dates = images.shape[1]
    shares = images.new_ones(images.shape[:2])
    if "valid" in batch:
        shares = usable(batch["valid"], images).float().mean(dim=(2, 3, 4)).expand(-1, dates)
    found = {
        "embedding": encode(images.flatten(0, 1)).float(),
        "date": batch["dates"].reshape(-1),
        "outline": batch["outline"].repeat_interleave(dates, dim=0),
        "valid_share": shares.reshape(-1),
    }
    return {name: value.detach().cpu() for name, value in found.items()}
