"""A connection for people: tomograms by name, watched and opened."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from pfitre_service.client.arrays import open_projections, open_result
from pfitre_service.client.watching import Revision, revisions_of
from pfitre_service.errors import StoreMissingError
from pfitre_service.model import TomogramKey
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.layout import ResultName
from pfitre_service.store.parameters import TiledParameters

if TYPE_CHECKING:
    import xarray

_POLL_S = 0.2
_DEFAULT = TiledParameters()


def connect(
    uri: str = f"http://{_DEFAULT.host}:{_DEFAULT.port}", api_key: str | None = None, *, timeout_s: float = 10.0
) -> Client:
    """A connection to the catalogue at `uri`, for reading; waits `timeout_s` for it to answer, and for a service that
    has just been started to make it.

    Parameters
    ----------
    uri
        Root address of the service's Tiled, or of any other that holds tomograms; by default of a service on
        this machine with the default port.
    api_key
        Needed where reading without one is not allowed, as it is from another machine by default.
    timeout_s
        Seconds to wait for an answer, and for tomograms to appear there.

    Returns
    -------
    Client
        An open connection; close it, or use it as a context manager.

    Raises
    ------
    StoreUnavailableError
        Nothing answers there.
    StoreMissingError
        A Tiled server answers that holds no `tomograms`.
    StoreError
        Something answers, and refuses or is no Tiled server.
    """
    ends_at, pause = time.monotonic() + timeout_s, threading.Event()
    while True:
        try:
            return Client(Catalog.connect(uri, api_key, timeout_s=max(0.0, ends_at - time.monotonic())))
        except StoreMissingError as error:
            if time.monotonic() >= ends_at:
                raise StoreMissingError(
                    f"the Tiled server at {uri} held no tomograms within {timeout_s:g} s ({error}); is this the "
                    "service's address, and does its ingest or worker run?"
                ) from error
        pause.wait(_POLL_S)


def watch(
    tomogram: str,
    uri: str = f"http://{_DEFAULT.host}:{_DEFAULT.port}",
    api_key: str | None = None,
    *,
    timeout_s: float = 120.0,
    poll_s: float = 0.5,
) -> Iterator[Revision]:
    """As `connect` and `Client.watch` in one: the revisions of one tomogram, until it is final.

    Parameters
    ----------
    tomogram
        Id of the tomogram.
    uri
        Root address of the catalogue, as `connect` has it.
    api_key
        As `connect` has it.
    timeout_s
        Seconds without anything new after which it gives up, as `Client.watch` has it.
    poll_s
        Seconds between two looks at the catalogue.

    Yields
    ------
    Revision
        The volume that has just appeared, in words and numbers.

    Raises
    ------
    StoreError
        As `connect` and `Client.watch` raise it, subclasses included.
    InputError
        `tomogram` can be no id.
    """
    with connect(uri, api_key) as client:
        yield from client.watch(tomogram, timeout_s=timeout_s, poll_s=poll_s)


class Client:
    """What `connect` returns. A context manager; `close` ends it as well. A server that went and came back goes
    unnoticed between calls; a call that meets none raises StoreUnavailableError. A tomogram is named by its id, the
    uid of its run.

    Parameters
    ----------
    catalog
        An open connection to the catalogue.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @property
    def uri(self) -> str:
        """Root address of the catalogue."""
        return self._catalog.uri

    def close(self) -> None:
        """Ends the connection: lazy arrays can be computed no more."""
        self._catalog.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tomograms(self) -> list[str]:
        """The id of every tomogram, newest last."""
        keys = self._catalog.keys()
        return [key.id for key in keys]

    def watch(self, tomogram: str, *, timeout_s: float = 120.0, poll_s: float = 0.5) -> Iterator[Revision]:
        """One `Revision` for each volume that appears, first for the one that is there; ends after the one whose status
        is final, failed or references.

        The catalogue is asked every `poll_s` seconds, and volumes that were replaced in between are passed over. A
        tomogram that is not there yet is waited for, and so is a server that is gone.

        Parameters
        ----------
        tomogram
            Id of the tomogram; it need not be there yet.
        timeout_s
            Seconds without anything new after which it gives up.
        poll_s
            Seconds between two looks at the catalogue.

        Yields
        ------
        Revision
            The volume that has just appeared, in words and numbers.

        Raises
        ------
        WatchTimeoutError
            Nothing new for `timeout_s`, beginning when the caller asks for the next one.
        StoreError
            The catalogue refuses to be read.
        InputError
            `tomogram` can be no id.
        """
        return revisions_of(self._catalog, TomogramKey(tomogram), timeout_s=timeout_s, poll_s=poll_s)

    def open_volume(self, tomogram: str, *, lazy: bool = False) -> xarray.DataArray:
        """The result as it is now. Coordinates are in nm: y and x from the rotation axis, z from the detector's first
        row; in pixels where the run did not say how large a pixel is (`voxel_size_unit`).

        The attributes hold where it comes from: run, prior, weights, `revision`. While the scan runs, slices of two
        revisions may mix.

        Parameters
        ----------
        tomogram
            Id of the tomogram.
        lazy
            A dask array of slabs that are fetched when they are computed, as they are then.

        Returns
        -------
        xarray.DataArray
            (z, y, x) float32, per pixel of the detector.

        Raises
        ------
        StoreMissingError
            There is no such tomogram, or no volume of it yet.
        StoreDamagedError
            A stored part of it is gone, shortened or changed (where lazy: when it is computed).
        StoreUnavailableError
            The catalogue does not answer.
        """
        return self._open("volume", tomogram, lazy)

    def open_physics(self, tomogram: str, *, lazy: bool = False) -> xarray.DataArray:
        """What the data give alone, without prior; errors as in `open_volume`.

        Parameters
        ----------
        tomogram
            Id of the tomogram.
        lazy
            As in `open_volume`.

        Returns
        -------
        xarray.DataArray
            (z, y, x) float32, per pixel of the detector.
        """
        return self._open("physics", tomogram, lazy)

    def open_expected_error(self, tomogram: str, *, lazy: bool = False) -> xarray.DataArray:
        """The error to be expected of each voxel; errors as in `open_volume`.

        Parameters
        ----------
        tomogram
            Id of the tomogram.
        lazy
            As in `open_volume`.

        Returns
        -------
        xarray.DataArray
            (z, y, x) float32, in the volume's unit.
        """
        return self._open("expected_error", tomogram, lazy)

    def open_inferred(self, tomogram: str, *, lazy: bool = False) -> xarray.DataArray:
        """The part of the volume that no angle measured; errors as in `open_volume`.

        Parameters
        ----------
        tomogram
            Id of the tomogram.
        lazy
            As in `open_volume`.

        Returns
        -------
        xarray.DataArray
            (z, y, x) float32, in the volume's unit.
        """
        return self._open("inferred", tomogram, lazy)

    def open_preview(self, tomogram: str, *, lazy: bool = False) -> xarray.DataArray:
        """Filtered back-projection of the data; errors as in `open_volume`.

        Parameters
        ----------
        tomogram
            Id of the tomogram.
        lazy
            As in `open_volume`.

        Returns
        -------
        xarray.DataArray
            (z, y, x) float32, per pixel of the detector.
        """
        return self._open("preview", tomogram, lazy)

    def open_projections(self, tomogram: str) -> xarray.DataArray:
        """The stored projections: counts, or line integrals (`measurement`). `angle` is in degrees in order of arrival,
        `row` and `column` from the first pixel in nm or pixels, `withdrawn` True for frames that do not count. Frames
        that are damaged in the store are left out, with a warning, and named in the attribute `damaged`.

        Parameters
        ----------
        tomogram
            Id of the tomogram.

        Returns
        -------
        xarray.DataArray
            (angle, row, column) in the detector's dtype.

        Raises
        ------
        StoreMissingError
            There is no such tomogram, or no projection of it yet.
        StoreUnavailableError
            The catalogue does not answer.
        InputError
            `tomogram` can be no id.
        """
        key = TomogramKey(tomogram)
        return open_projections(self._catalog.reader(key), self._catalog.summary(key), uri=self.uri)

    def _open(self, name: ResultName, tomogram: str, lazy: bool) -> xarray.DataArray:
        return open_result(self._catalog.reader(TomogramKey(tomogram)), name, lazy=lazy, uri=self.uri)
