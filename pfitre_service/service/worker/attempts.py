"""What the worker was at when it died, for the worker that comes after it.

A tomogram that takes its worker with it (no memory left, a fault in a library) would do so again and again, and nobody
else's would be worked on. What the worker is at stands in a small file; found there by the next one, the last one died
over it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pfitre_service.model import TomogramKey

logger = logging.getLogger(__name__)

MOST_ALIKE = 3
"""Deaths one after the other at the same place of a tomogram, after which it is given up."""
MOST_IN_ALL = 10
"""Deaths over one tomogram, wherever. People and machines kill workers too, so these alone say little."""


class Attempts:
    """Deaths of workers by tomogram. Belongs to one thread of one process; what it writes outlives a kill.

    Parameters
    ----------
    path
        Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at: tuple[str, str] | None = None
        self._trouble = ""
        self._deaths, last = self._read()
        """By tomogram: the place where the last worker died, how often in a row there, and how often in all."""
        if last is not None:
            self._count(*last)
        self._write()

    def begin(self, key: TomogramKey, place: str) -> None:
        """A turn begins.

        Parameters
        ----------
        key
            Of the tomogram.
        place
            How far it has come, in words that are the same when it comes there again.
        """
        if self._at != (key.id, place):
            self._at = key.id, place
            self._write()

    def rest(self) -> None:
        """Nothing is being worked on."""
        if self._at is not None:
            self._at = None
            self._write()

    def forget(self, key: TomogramKey) -> None:
        """A tomogram has come to its end."""
        if self._deaths.pop(key.id, None) is not None:
            self._write()

    def verdict(self, key: TomogramKey) -> str | None:
        """Why a tomogram is not worked on any more; None where it may be."""
        found = self._deaths.get(key.id)
        if found is None or (found["alike"] < MOST_ALIKE and found["all"] < MOST_IN_ALL):
            return None
        times = f"{found['alike']} times in a row" if found["alike"] >= MOST_ALIKE else f"{found['all']} times"
        return (
            f"the worker died {times} over it, the last time at {found['place']}; its log, or that of the system (out "
            "of memory?), may say why"
        )

    def _count(self, key: str, place: str) -> None:
        last = self._deaths.get(key, {"place": "", "alike": 0, "all": 0})
        alike = last["alike"] + 1 if last["place"] == place else 1
        self._deaths[key] = {"place": place, "alike": alike, "all": last["all"] + 1}
        logger.warning("the worker before this one died over tomogram %s at %s", key, place)

    def _read(self) -> tuple[dict[str, dict[str, Any]], tuple[str, str] | None]:
        """Deaths by tomogram, and what the worker before this one was at."""
        try:
            document = json.loads(self._path.read_text())
            deaths = {str(key): _death(one) for key, one in document["deaths"].items()}
            at = document["at"]
            return deaths, None if at is None else (str(at[0]), str(at[1]))
        except FileNotFoundError:
            return {}, None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            logger.warning("%s cannot be read and is begun anew: %s", self._path, error)
            return {}, None

    def _write(self) -> None:
        """Whole or not at all; not synced, for a kill leaves what the system holds, and a lost machine starts anew."""
        text = json.dumps({"at": self._at, "deaths": self._deaths})
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(text)
            beside.replace(self._path)
        except OSError as error:  # a full disk must not stop the worker
            if str(error) != self._trouble:
                logger.warning("a worker's death over a tomogram could not be noted: %s", error)
            self._trouble = str(error)


def _death(document: dict[str, Any]) -> dict[str, Any]:
    return {"place": str(document["place"]), "alike": int(document["alike"]), "all": int(document["all"])}
