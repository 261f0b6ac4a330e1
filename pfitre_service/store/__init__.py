"""Tomograms in Tiled: the embedded server, the catalogue, its writers and readers.

The only part that talks to Tiled. `server` serves a data folder; `catalog.Catalog` connects to any server;
`writer_thread.StoreThread` writes frames so that whoever receives them need not wait; `layout` names the nodes.
Importing the part is cheap; Tiled itself (3 s) is imported by `server` alone, when a server is started.
"""
