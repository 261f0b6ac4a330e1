"""Logs of a process: a line a message, with the process and the tomogram or run that it is about.

What a message is about stands in a context, not in each message:

    with about(key):
        logger.info("taken up")
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pfitre_service.text_output import printable

_LONGEST = 2000
"""Characters of a message."""
_SUBJECT: ContextVar[str] = ContextVar("subject", default="")
_TEXT = "%(asctime)s %(levelname)-7s %(process_name)s[%(process)d] %(name)s: %(about)s%(message)s"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How a process logs."""

    level: int = logging.INFO
    format: Literal["text", "json"] = "text"
    """`text` for people; `json`: an object a line, for collectors."""


@contextmanager
def about(subject: object) -> Iterator[None]:
    """What is logged in this thread inside the block is about `subject`: a tomogram or run, by its uid."""
    token = _SUBJECT.set(str(subject))
    try:
        yield
    finally:
        _SUBJECT.reset(token)


def set_up_logging(options: LogOptions, process: str, *, force: bool = False) -> None:
    """Log to standard error as the process of that name; unless logging is set up already and not `force`."""
    if logging.getLogger().handlers and not force:
        return
    handler = logging.StreamHandler()
    handler.addFilter(_Subject(process))
    handler.setFormatter(JsonFormatter() if options.format == "json" else LineFormatter(_TEXT))
    logging.basicConfig(level=options.level, handlers=[handler], force=force)


class _Subject(logging.Filter):
    """Gives every record the name of the process and what it is about."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def filter(self, record: logging.LogRecord) -> bool:
        subject = _SUBJECT.get()
        record.process_name, record.subject = self._process, subject
        record.about = f"{subject}: " if subject else ""
        return True


class LineFormatter(logging.Formatter):
    """One line a message, whatever it quotes; a traceback follows indented, so that none of it passes for a message."""

    def format(self, record: logging.LogRecord) -> str:
        plain = logging.makeLogRecord(record.__dict__)
        plain.msg, plain.args = printable(record.getMessage(), _LONGEST), ()
        plain.about = printable(getattr(record, "about", ""), _LONGEST)
        plain.exc_text = None  # another formatter may have left its own here
        return super().format(plain)

    def formatException(self, ei: Any) -> str:  # noqa: N802  (logging's own name)
        return "\n".join(f"  {printable(line, _LONGEST)}" for line in super().formatException(ei).splitlines())


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, process, pid, logger, about, message, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": getattr(record, "process_name", None),
            "pid": record.process,
            "logger": record.name,
            "about": getattr(record, "subject", None) or None,
            "message": record.getMessage()[:_LONGEST],
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)[:_LONGEST]
        return json.dumps(entry)
