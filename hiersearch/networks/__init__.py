"""Networks that turn images into probabilities: the shipped one, and those loaded from files.

Importing this package needs no torch; :mod:`hiersearch.networks.unet` does.
"""

from hiersearch.networks.loading import load_network, nuclei_network
from hiersearch.networks.network import ACTIVATIONS, Activation, Network
from hiersearch.networks.objects import nuclei_target

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Network",
    "load_network",
    "nuclei_network",
    "nuclei_target",
]
