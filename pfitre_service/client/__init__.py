"""For notebooks and scripts: watch a tomogram grow, and open its arrays with coordinates.

from pfitre_service.client import connect

with connect("http://127.0.0.1:8010") as client:
    for revision in client.watch(client.tomograms()[-1]):
        print(revision.number, revision.status, revision.angles_used, revision.heldout_error)
    volume = client.open_volume(revision.tomogram)   # xarray: z, y, x in nm where the run said how large a pixel is

A convenience over `store/`, which does the reading; a plain Tiled client reads the same
(docs/how-to/read-the-volume.md). Nothing here writes.
"""

from pfitre_service.client.connection import Client, connect, watch
from pfitre_service.client.watching import Revision, WatchTimeoutError

__all__ = ["Client", "Revision", "WatchTimeoutError", "connect", "watch"]
