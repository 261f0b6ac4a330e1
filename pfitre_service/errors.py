"""Every error this package raises on purpose.

    PfitreError
    ├── SettingsError       a setting, profile or command-line value that cannot be used
    ├── InputError          data that cannot be understood: files, arrays, angles
    │   └── DocumentError   a Bluesky document that breaks its own rules
    ├── StoreError          the catalogue (Tiled) refuses, is out of reach, or cannot write
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
