"""PV Access: slices and status of a tomogram as EPICS process variables, for ImageJ, Phoebus and any other client.

    values      what travels: slices as NTNDArray, scalars, alarms
    variables   the process variables of one prefix, what clients ask of them, and their server

Nothing here knows the catalogue; `epics/pva_process.py` brings what is shown. Needs p4p (the extra `pva`).
"""
