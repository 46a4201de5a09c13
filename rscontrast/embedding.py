"""The stage that embeds: an encoder and pairs in, a table of embeddings with their geometry out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import lightning.pytorch as pl
import pandas as pd
import shapely
import torch
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from rscontrast.datamodules.pairs import pair_images
from rscontrast.datamodules.patches import DatedPatches, NormalisePatches
from rscontrast.errors import InputError, whole
from rscontrast.io.geoparquet import FrameWriter, join_files, write_frames
from rscontrast.loader import PairLoader
from rscontrast.models.checkpoint import load_encoder
from rscontrast.models.device import torch_device
from rscontrast.models.encoder import embed as encode
from rscontrast.stac.conditions.sphere import wrap
from rscontrast.stac.pairing.file import SomePairs, as_frame
from rscontrast.stac.provider import Provider
from rscontrast.tasks.predicted import Embedded, embed_batch
from rscontrast.types import PathOrStr


def embed(
    items: gpd.GeoDataFrame,
    pairs: SomePairs,
    out: PathOrStr,
    *,
    encoder: PathOrStr,
    bands: Sequence[str] | None = None,
    patch_size: int = 96,
    batch_size: int = 64,
    tolerance: str = "1h",
    provider: Provider | str | None = None,
    num_workers: int = 0,
    threads: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Embed each patch of each place of the pairs, at each of its dates.

    One row a patch and date: ``embedding`` (list of float32, the encoder's, before any head),
    ``date``, ``valid_share`` (0-1, of the patch's pixels) and ``geometry``, the patch's footprint
    in EPSG:4326. Nothing is drawn and nothing augmented: images are normalised as the encoder's
    were.

    Args:
        items: of :func:`rscontrast.search`.
        pairs: of :func:`rscontrast.pair_items`, whose ground and dates are embedded.
        out: GeoParquet to write; it is there when all is written.
        encoder: checkpoint of an encoder.
        bands: what the encoder will be fed, in order; default: those it was trained on.
        patch_size: side of a patch, pixels.
        batch_size: patches that are embedded at a time.
        tolerance: as the pairs were made with.
        provider: where bands lie in the assets: a name, or pkg.mod:PROVIDER.
        num_workers: reading processes; 0 reads in this one, by threads.
        threads: that read at a time without workers; default: 4.
        device: "auto", "cpu" or "gpu".
        progress: show a bar.

    Returns:
        path of the table.

    Raises:
        InputError: an argument out of range, or tables that do not fit each other.
        CheckpointError: ``encoder`` is no encoder of ours.
        BandError: it was trained on other bands, or an item lacks one.
        AssetError: a file cannot be read.
        EmptySearchError: there is no patch.
        WriteError: the disk does not take the table.
    """
    whole("patch_size", patch_size)
    whole("batch_size", batch_size)
    there, start = torch_device(device), load_encoder(encoder, bands)
    frame, names = as_frame(pairs), start.contract.bands
    images = pair_images(items, frame, names, provider)
    patches = DatedPatches(images, frame, patch_size, tolerance)
    loader = PairLoader(patches, batch_size, num_workers=num_workers, threads=threads)
    module, normalise = start.module.to(there), NormalisePatches(start.contract)

    def frames() -> Iterator[gpd.GeoDataFrame]:
        for batch in tqdm(loader, "embed", disable=not progress, leave=False):
            moved = normalise({name: value.to(there) for name, value in batch.items()})
            with torch.inference_mode():
                found = embed_batch(lambda x: encode(module, x), moved, len(names))
            yield embedding_frame(found)

    write_frames(out, frames())
    return Path(out)


class EmbeddingWriter(Callback):
    """Writes what a task of ours predicts as one GeoParquet, of all ranks.

    Columns as of :func:`embed`. A prediction that is cut leaves no file.
    """

    def __init__(self, out: str) -> None:
        """Name the file.

        Raises:
            InputError: no name of a Parquet file.
        """
        if Path(out).suffix != ".parquet":
            raise InputError("out", out, "a name that ends in .parquet")
        self.out = Path(out)
        self._file: FrameWriter | None = None

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a part of this rank."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        # Of a run that was killed: a rank without a row writes none of its own.
        self._part(trainer.global_rank).unlink(missing_ok=True)
        self._file = FrameWriter(self._part(trainer.global_rank))

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the rows of a batch."""
        if self._file is not None:
            self._file.add(embedding_frame(outputs))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Join the parts.

        Raises:
            EmptySearchError: nothing was predicted.
            WriteError: the disk does not take it.
        """
        if self._file is not None:
            self._file.close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            parts = [self._part(rank) for rank in range(trainer.world_size)]
            join_files(self.out, [part for part in parts if part.exists()])
        trainer.strategy.barrier()
        self._discard(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave nothing of a prediction that was cut."""
        if self._file is not None:
            self._file.close()
        self._discard(trainer)

    def _discard(self, trainer: pl.Trainer) -> None:
        self._file = None
        self._part(trainer.global_rank).unlink(missing_ok=True)

    def _part(self, rank: int) -> Path:
        return self.out.with_name(f".{self.out.stem}.rank{rank}{self.out.suffix}")


def embedding_frame(found: Embedded) -> gpd.GeoDataFrame:
    """Rows with geometry of what was embedded; footprints are cut at the antimeridian."""
    rings = found["outline"].double().numpy()
    seconds = pd.to_datetime(found["date"].double().numpy(), unit="s", utc=True)
    columns = {
        "embedding": list(found["embedding"].numpy()),
        "date": seconds.astype("datetime64[ms, UTC]"),
        "valid_share": found["valid_share"].numpy(),
    }
    geometry = [wrap(shapely.Polygon(ring)) for ring in rings]
    return gpd.GeoDataFrame(columns, geometry=geometry, crs="EPSG:4326")
