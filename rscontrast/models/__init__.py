"""Encoders, heads, decoders over two dates, and the checkpoints that hold them."""

from rscontrast.models.checkpoint import load_encoder as load_encoder
from rscontrast.models.checkpoint import load_segmenter as load_segmenter
from rscontrast.models.checkpoint import save_encoder as save_encoder
from rscontrast.models.checkpoint import save_segmenter as save_segmenter
from rscontrast.models.damage import PairSegmenter as PairSegmenter
from rscontrast.models.damage import SiameseSegmenter as SiameseSegmenter
from rscontrast.models.encoder import create_encoder as create_encoder
from rscontrast.models.segmenter import create_segmenter as create_segmenter
