"""Hierarchical segmentation search: find the nearest partition, exactly and fast.

Names are imported from their modules when they are first used, so that ``import hiersearch``
itself costs next to nothing. They are listed in ``__init__.pyi``, and nowhere else.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
