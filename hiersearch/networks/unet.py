"""The small U-Net whose weights the package ships: background, interior and boundary of nuclei.

Importing this module imports torch, which no other part of the package does on import.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from hiersearch.errors import MissingExtraError

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("torch", "torch", "The small U-Net") from error

DEFAULT_WIDTHS = (16, 32, 64, 96)
"""Feature channels at full, half, quarter and eighth resolution."""

CONTRAST_FLOOR = 1e-4
"""Added to the standard deviation, so that a constant image becomes zeros and not NaN."""


def standardise(images: Tensor) -> Tensor:
    """Bring images of any brightness, contrast and colour to one scale.

    Each image of the batch is shifted and scaled, all channels together, to mean 0 and standard
    deviation 1, then compressed by asinh: in fluorescence a few bright nuclei would otherwise set
    the scale for all the faint ones. Grey images become RGB images with three equal channels.

    Parameters
    ----------
    images : Tensor
        float32, shape (N, 1, H, W) or (N, 3, H, W), any finite values (0..1 by convention).

    Returns
    -------
    Tensor
        float32, shape (N, 3, H, W).

    Raises
    ------
    ValueError
        If the shape is another one.
    """
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must have shape (N, 1, H, W) or (N, 3, H, W), got {tuple(images.shape)}"
        )
    axes = (1, 2, 3)
    centred = images - images.mean(dim=axes, keepdim=True)
    # Written out: std() of a one-pixel image is NaN with torch's default correction.
    deviation = centred.square().mean(dim=axes, keepdim=True).sqrt()
    scaled = torch.asinh(centred / (deviation + CONTRAST_FLOOR))
    return scaled.expand(-1, 3, -1, -1)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class SmallUNet(nn.Module):
    """A U-Net with three halvings and fewer than 0.4 million parameters.

    Parameters
    ----------
    classes : int
        Number of output channels.
    widths : sequence of int
        Feature channels at each resolution, finest first.

    Notes
    -----
    Any height and width of at least one pixel is accepted: the image is extended by reflection
    to a multiple of ``stride`` (by replication where it is too small to reflect) and the output
    cropped back. O(H·W) time and memory.

    Examples
    --------
    >>> import torch
    >>> network = SmallUNet().eval()
    >>> network(torch.rand(1, 1, 37, 50)).shape
    torch.Size([1, 3, 37, 50])
    """

    def __init__(self, classes: int = 3, widths: Sequence[int] = DEFAULT_WIDTHS) -> None:
        super().__init__()
        self.classes = classes
        self.widths = tuple(widths)
        self.stride = 2 ** (len(self.widths) - 1)
        incoming = (3, *self.widths[:-1])
        self.down = nn.ModuleList(_block(i, o) for i, o in zip(incoming, self.widths, strict=True))
        self.up = nn.ModuleList(
            _block(coarse + fine, fine)
            for fine, coarse in zip(self.widths[:-1], self.widths[1:], strict=True)
        )
        self.head = nn.Conv2d(self.widths[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (N, classes, H, W) for images (N, 1 or 3, H, W) in 0..1."""
        return self.forward_standardised(standardise(images))

    def forward_standardised(self, images: Tensor) -> Tensor:
        """Return logits for images that `standardise` has already seen.

        Training on crops needs this: a crop's own mean and contrast are not its image's.
        """
        height, width = images.shape[-2:]
        features = _extended(images, -height % self.stride, -width % self.stride)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            if level:
                skips.append(features)
                features = functional.max_pool2d(features, 2)
            features = block(features)
        for level in reversed(range(len(self.up))):
            upsampled = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = self.up[level](torch.cat((skips[level], upsampled), dim=1))
        return cast(Tensor, self.head(features))[..., :height, :width]


def _extended(images: Tensor, below: int, right: int) -> Tensor:
    """Extend images by ``below`` rows and ``right`` columns."""
    if not (below or right):
        return images
    height, width = images.shape[-2:]
    # Reflection needs more pixels than it adds.
    mode = "reflect" if below < height and right < width else "replicate"
    return functional.pad(images, (0, right, 0, below), mode=mode)
