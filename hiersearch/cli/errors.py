"""What the user sees when something is wrong: one sentence on standard error, exit code 2."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from hiersearch._errors import DoubtfulInputWarning, MissingExtraError

BAD_INPUT = 2
INTERRUPTED = 130


class UsageError(ValueError):
    """Options that do not go together."""


class Interrupted(Exception):
    """The user has interrupted a command that has something to say about it.

    Typer would swallow the words of a KeyboardInterrupt.
    """


class PlainErrors(TyperGroup):
    """A group of commands whose errors are single sentences.

    Errors that are no fault of the input keep their traceback: they are faults of the program.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and leave with its exit code."""
        reason = ""
        try:
            with _shown_doubts():
                code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except Interrupted as error:
            code, reason = INTERRUPTED, f": {error}"
        except Exception as error:
            message = sentence(error)
            if message is None:
                raise
            print(f"hiersearch: error: {message}", file=sys.stderr)
            code = BAD_INPUT
        if code == INTERRUPTED:
            print(f"hiersearch: interrupted{reason}", file=sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _shown_doubts() -> Iterator[None]:
    """Write warnings of doubtful input on standard error, each once; others are as they were."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=DoubtfulInputWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if issubclass(category, DoubtfulInputWarning):
                print(f"hiersearch: warning: {message}", file=sys.stderr)
            else:
                others(message, category, *rest, **named)

        warnings.showwarning = show
        yield


def sentence(error: Exception) -> str | None:
    """Return what to tell the user in one line, or None for a fault of the program."""
    # Click's own errors, whose class is at different places in different versions of Typer.
    written = getattr(error, "format_message", None)
    if written is not None:
        context = getattr(error, "ctx", None)
        command = "hiersearch" if context is None else context.command_path
        text = f"{str(written()).rstrip('.')} (see {command} --help)"
    elif isinstance(error, UsageError | MissingExtraError | ValueError | TypeError):
        text = str(error)
    elif isinstance(error, OSError):
        text = _about_file(error)
    elif isinstance(error, MemoryError):
        text = f"there is not enough memory: {error}" if str(error) else "there is no memory left"
    else:
        return None
    return " ".join(text.split())


def _about_file(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
