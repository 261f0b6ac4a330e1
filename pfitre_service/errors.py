"""Every error this package raises on purpose.

    PfitreError
    ├── SettingsError       a setting, profile or command-line value that cannot be used
    ├── InputError          data that cannot be understood: files, arrays, angles
    │   └── DocumentError   a Bluesky document that breaks its own rules
    ├── StoreError          the catalogue (Tiled) refuses, is out of reach, or cannot write
    │   ├── StoreUnavailableError   not now: out of reach, too slow, disk full; the same call may work later
    │   │   └── StoreBrokenError        the server answers that it failed at this very request
    │   ├── StoreMissingError       there is no such node
    │   ├── StoreConflictError      there is such a node already
    │   ├── StoreDamagedError       what was stored is gone, shortened or changed
    │   └── StoreForbiddenError     the key, or its absence, does not allow it
    └── ServiceError        a process of the service did not start, answer or stop

A message says what was expected, what came, where, and what to do about it.
"""

from __future__ import annotations


class PfitreError(Exception):
    """Root of the tree: catch this to catch everything raised on purpose."""


class SettingsError(PfitreError):
    """A setting, profile or command-line value that cannot be used."""


class InputError(PfitreError):
    """Data that cannot be understood: a file, an array, a set of angles."""


class DocumentError(InputError):
    """A Bluesky document that breaks the rules of its own kind."""


class StoreError(PfitreError):
    """The catalogue refuses, is out of reach, or cannot write."""


class ServiceError(PfitreError):
    """A process of the service did not start, answer or stop."""


class StoreUnavailableError(StoreError):
    """The catalogue cannot do it now; worth another try."""


class StoreBrokenError(StoreUnavailableError):
    """The server answers that it failed at this very request. Perhaps it always will."""


class StoreMissingError(StoreError):
    """There is no such node in the catalogue."""


class StoreConflictError(StoreError):
    """A node of this name is there already."""


class StoreDamagedError(StoreError):
    """What was stored can be read no more: a file is gone, shortened or changed. Another try will not help."""


class StoreForbiddenError(StoreError):
    """The server wants another key than it was given, or any at all."""
