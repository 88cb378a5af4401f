"""Names from outside: shown so that no terminal obeys them, and made into names of files.

Ids, metadata and names of files may hold anything: sequences that move a terminal's cursor, text
that runs backwards, bytes that are no text at all.
"""

import re
import unicodedata

# Control characters, breaks of lines and paragraphs, marks that turn the direction of text or
# have no width, and what stands for bytes that are no UTF-8.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)

# What some file system minds, and what would leave the folder.
_NOT_IN_NAMES = re.compile(r"[^\w.,@+= -]|^\.")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)

LONGEST_NAME = 255
"""Bytes that file systems take for a name."""
_MOST_OF_STEM = 200
"""Bytes of a file name that come from an id: the rest is for number and ending."""


def shown(text: str) -> str:
    r"""Return text for a terminal: what is no plain character is shown escaped.

    A byte of a file name that is no UTF-8 is shown as that byte. O(characters).

    Examples
    --------
    >>> print(shown("a\x1b[31m\udcff b"))
    a\x1b[31m\xff b
    """
    return _UNSAFE.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escaped_json(text: str) -> str:
    r"""Return JSON text that means the same, without any character that is unsafe to show.

    Also where it is no text: half of a surrogate pair, as Python reads names of files that are no
    UTF-8, cannot be written to a file. O(characters).

    Examples
    --------
    >>> print(escaped_json('{"name": "\udcff"}'))
    {"name": "\udcff"}
    """
    # In JSON, the only control characters outside of strings are spaces and newlines.
    return _UNSAFE.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text
    )


class FreeNames:
    """Names of files in one folder, made of ids: no two alike, none leaves the folder.

    Parameters
    ----------
    *taken : str
        Names that are not free.

    Notes
    -----
    Names differ also where upper and lower case, or composed and decomposed letters, do not
    count. They have at most 255 bytes in UTF-8.

    Examples
    --------
    >>> names = FreeNames("entries.json")
    >>> [names.of(one, ".png") for one in ("../a", "../A", "a b", "con", "...")]
    ['-.-a.png', '-.-A (2).png', 'a b.png', '-con.png', '-...png']
    """

    def __init__(self, *taken: str) -> None:
        self._taken = {_folded(name) for name in taken}
        self._numbers: dict[str, int] = {}

    def of(self, text: str, ending: str = "") -> str:
        """Return a free name for ``text`` with ``ending``; it is taken from now on."""
        stem = _plain(text)
        first = _folded(stem + ending)
        number = self._numbers.get(first, 1)
        name = f"{stem}{ending}" if number == 1 else f"{stem} ({number}){ending}"
        while _folded(name) in self._taken:
            number += 1
            name = f"{stem} ({number}){ending}"
        self._numbers[first] = number
        self._taken.add(_folded(name))
        return name


def _plain(text: str) -> str:
    stem = _NOT_IN_NAMES.sub("-", unicodedata.normalize("NFC", text))
    if _DEVICES.match(stem):
        stem = f"-{stem}"
    # Cut between characters, whatever their number of bytes.
    return stem.encode()[:_MOST_OF_STEM].decode(errors="ignore").rstrip(" ") or "-"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())
