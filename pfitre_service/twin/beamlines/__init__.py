"""Simulated beamlines whose documents and files are those of real ones, all of the same exposures.

`exposures.py` takes the frames once. Each other module plays them as one kind of beamline would record them: a plan for
a RunEngine, with devices of the libraries that real beamlines use. `forms.py` lists them all, each with the
`[documents]` table that describes it.
"""
