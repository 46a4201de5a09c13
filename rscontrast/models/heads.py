"""MLPs on the encoder that the pretraining loss sees and the user throws away."""

from torch import nn

from rscontrast.errors import whole


def projection_head(
    in_features: int, hidden: int, out_features: int, *, batch_norm: bool = False
) -> nn.Sequential:
    """Two linear layers with a ReLU between: [B, D] -> [B, out].

    Args:
        in_features: D.
        hidden: width between the layers.
        out_features: size of what comes out.
        batch_norm: one before the ReLU, as in BYOL (arXiv 2006.07733); without it it is the head
            of FALSE (arXiv 2211.07928, released code) and of MoCo v2 (arXiv 2003.04297).
    """
    norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
    return nn.Sequential(
        nn.Linear(in_features, whole("hidden_dim", hidden)),
        *norm,
        nn.ReLU(inplace=True),
        nn.Linear(hidden, whole("output_dim", out_features)),
    )
