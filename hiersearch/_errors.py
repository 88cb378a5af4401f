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
