"""Text on its way out: to a terminal, a log, a file. What documents and files say is data there, and never a command.

Beside line ends and tabs, whatever steers a terminal or hides text is shown as the escape that Python writes for it:
controls (also those that begin a sequence), marks that turn the direction of writing, zero-width signs, surrogates.
Spaces of every width become the usual one.
"""

from __future__ import annotations

import io
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def printable(text: str, limit: int | None = None, *, lines: bool = False) -> str:
    """`text` with escapes for all that is not to be seen, and cut after `limit` characters with a word on the rest.

    lines: whether line ends and tabs may stay.
    """
    left = 0 if limit is None else max(0, len(text) - limit)
    shown = text if limit is None else text[:limit]
    if not shown.isprintable():
        shown = "".join(_shown(sign, lines) for sign in shown)
    return shown + (f" ... ({left} more characters)" if left else "")


def _shown(sign: str, lines: bool) -> str:
    if sign.isprintable() or (lines and sign in "\n\t"):
        return sign
    if unicodedata.category(sign) == "Zs":
        return " "
    return sign.encode("unicode_escape", "surrogatepass").decode("ascii")


def storable(text: str, limit: int | None = None) -> str:
    """`text` as UTF-8 and every database can hold it, and cut after `limit` characters with a word on the rest.

    Half a surrogate pair is no text: a catalogue would take it, and fail at every list that it stands in.
    """
    cut = text if limit is None or len(text) <= limit else f"{text[:limit]} ... ({len(text) - limit} more characters)"
    return cut.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def make_console(*, stderr: bool = False) -> Console:
    """A console that takes all text for data: it knows no markup, and shows what would steer the terminal, line ends
    too. Text of our own that has lines or colours is a `rich.text.Text`."""
    from rich.console import Console
    from rich.text import Text

    class DataConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return DataConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


def say(text: str) -> None:
    """Print lines of our own that quote what files and documents say."""
    sys.stdout.write(f"{printable(text, lines=True)}\n")
    sys.stdout.flush()


def take_any_text() -> None:
    """Show as escapes what the terminal's encoding cannot hold, where it would end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def percent(share: float) -> str:
    """Two figures, and never in powers of ten."""
    return f"{float(f'{100 * share:.2g}'):g} %"
