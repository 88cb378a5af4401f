"""Being ended from outside: SIGTERM and SIGHUP go the way of Ctrl-C, so that all is tidied up."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_HEEDED = ("SIGINT", "SIGTERM", "SIGHUP")
_WORDS = {"SIGTERM": "terminated", "SIGHUP": "hung up"}
_AT_REST = 2.0
"""Seconds in which further signals don't disturb the tidying up that the first began."""

_first = 0
"""Number of the signal that ends the command."""
_heard_at = 0.0
_holding = 0
_held = 0
"""Number of a signal that came while signals were held."""


def heed() -> None:
    """From now on, raise KeyboardInterrupt in the main thread when asked to end by a signal.

    Signals that whoever started the program ignores, as ``nohup`` does, stay ignored.
    """
    for name in _HEEDED:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _first, _heard_at, _held
    if _holding:
        _held = number
        return
    if _first and time.monotonic() - _heard_at < _AT_REST:
        # Some ends come twice: a terminal that closes, a service manager in a hurry.
        return
    _first = _first or number
    _heard_at = time.monotonic()
    raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back while the block runs: what is short and must not be left half done."""
    global _holding, _held
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
        if _held and not _holding:
            number, _held = _held, 0
            _interrupt(number, None)


def heard() -> bool:
    """Say whether a signal has asked to end."""
    return bool(_first)


def exit_code() -> int:
    """Return the exit code of an interrupted command: 128 and the signal, 130 for Ctrl-C."""
    return 128 + (_first or signal.SIGINT)


def word() -> str:
    """Say how the command was ended."""
    return _WORDS.get(signal.Signals(_first or signal.SIGINT).name, "interrupted")


def occupy_standard_streams() -> None:
    """Let none of the first three descriptors be free, if the program was started without them.

    The next file that is opened would get their number, and what libraries print would go there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: this one, since those below are in use.
            os.open(os.devnull, os.O_RDWR)
