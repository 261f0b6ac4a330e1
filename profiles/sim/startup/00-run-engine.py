"""The RunEngine of the simulated beamline, publishing its documents over 0MQ.

From the project's root, with its environment active:

    ipython --profile-dir=profiles/sim

    RE(chip.plan())          # a whole scan: darks, flats, 85 projections
    RE(tomo_scan(detector, rotation, wedge_angles(missing=96, step=2), flats=5, darks=5, sample="chip"))

Documents go to the proxy at 127.0.0.1:5567, or to the address in the environment variable SIM_PUBLISH;
SIM_PUBLISH=none publishes nothing.
"""

import logging
import os
import socket

from bluesky import RunEngine
from bluesky.callbacks.best_effort import BestEffortCallback
from bluesky.callbacks.zmq import Publisher

RE = RunEngine({"beamline_id": "sim"})

bec = BestEffortCallback()
bec.disable_plots()
RE.subscribe(bec)


def _publish(address: str) -> None:
    """Publish every document to the 0MQ proxy at `address`, "host:port"."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError as error:
        # 0MQ connects by itself once a proxy is there; until then what is published is gone, and it does not say so.
        logging.getLogger("profiles.sim").warning(
            "No 0MQ proxy answers at %s (%s): scans run, but nobody receives their documents. Start `pfitre serve "
            "--profile profiles/sim` and go on here, or set SIM_PUBLISH to the proxy's address.",
            address,
            error,
        )
    RE.subscribe(Publisher(address))


_address = os.environ.get("SIM_PUBLISH", "127.0.0.1:5567")
if _address.lower() != "none":
    _publish(_address)
