"""Networks that turn images into probabilities: the shipped one, loaded ones, and trained ones.

Importing this package needs no torch; :mod:`hiersearch.networks.unet` and
:mod:`hiersearch.networks.training.loop` do, and `train` is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

from hiersearch.choices import ACTIVATIONS, Activation
from hiersearch.errors import NetworkError
from hiersearch.networks.loading import load_network, nuclei_network
from hiersearch.networks.network import Network
from hiersearch.networks.training.labelled import LabelledImages, read_labelled_images
from hiersearch.networks.training.result import Progress, Training
from hiersearch.networks.training.settings import TrainingSettings

if TYPE_CHECKING:
    from hiersearch.networks.training.loop import train

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "LabelledImages",
    "Network",
    "NetworkError",
    "Progress",
    "Training",
    "TrainingSettings",
    "load_network",
    "nuclei_network",
    "read_labelled_images",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import torch only for what trains with it."""
    if name == "train":
        from hiersearch.networks.training.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
