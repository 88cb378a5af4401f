"""Errors that the package raises besides ValueError and TypeError."""


class MissingExtraError(ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed: "
            f'run pip install "hiersearch[{extra}]".'
        )


class FileFormatError(ValueError):
    """A file could not be read as what it was given for."""


class NetworkError(ValueError):
    """A network failed on an image, or answered with what is no output of a segmentation network.

    What the network itself raised, if it did, is the cause (``__cause__``).
    """


class DoubtfulInputWarning(UserWarning):
    """Input that can be used, and is hardly what was meant. The command line shows it, too."""
