// Links to the report and the exports of one tomogram.

import * as tiled from "./tiled.js";

const FILES = [
  ["report", "", "Report", "One page for the logbook, opens in a new tab"],
  ["export", ".h5", "HDF5", "NeXus HDF5 with volume, physics, expected_error and provenance"],
  ["export", ".ome.zarr.zip", "OME-Zarr", "OME-Zarr in one zip file"],
  ["export", ".tif", "TIFF", "TIFF stack of the volume, for ImageJ"],
];

/** Links for tomogram `id`; `say(text)` is told how a download with a key goes on, `refused(error)` why it does not. */
export function links(id, say, refused) {
  return FILES.map(([kind, end, words, title]) => {
    const link = document.createElement("a");
    Object.assign(link, { href: `${kind}/${encodeURIComponent(id)}${end}`, textContent: words, title });
    if (kind === "report") Object.assign(link, { target: "_blank", rel: "noopener" });
    else link.download = "";
    // A plain link cannot carry a key; without one the browser streams the file to the disk by itself.
    link.onclick = (event) => {
      if (!tiled.hasKey()) return;
      event.preventDefault();
      fetchWithKey(link, kind, say).catch(refused);
    };
    return link;
  });
}

async function fetchWithKey(link, kind, say) {
  const tab = kind === "report" ? window.open("about:blank") : null;
  say(`${link.textContent}: being written`);
  try {
    const { blob, name } = await tiled.file(link.href);
    const url = URL.createObjectURL(blob);
    if (tab) tab.location = url;
    else Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    say("");
  } catch (error) {
    tab?.close();
    say(`${link.textContent}: ${error.message}`);
    throw error;
  }
}
