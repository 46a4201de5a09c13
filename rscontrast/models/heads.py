"""MLPs on the encoder that the pretraining loss sees and the user throws away."""

from torch import nn


def projection_head(in_features: int, hidden: int, out_features: int) -> nn.Sequential:
    """Two linear layers with a ReLU between, no normalisation: [B, D] -> [B, out].

    Source: the recipe of FALSE (arXiv 2211.07928, released code), which is SimCLR's v1 head
    without batch norm.
    """
    return nn.Sequential(
        nn.Linear(in_features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out_features)
    )
