// What the numbers mean, in sentences.

const PHASES = { preview: "first picture", iterating: "the scan runs", converging: "converging", refit: "with the held-out angles as well", final: "final" };

/** What stands where the statement on how far the picture may be believed will be. */
export function waiting(status, angles, revision) {
  if (status === "references") return "Flats and darks, for other runs.";
  if (!angles) return "No projection yet.";
  return revision ? "A first picture; how far it may be believed is not known yet." : "No volume yet.";
}

export function phase(name) {
  return PHASES[name] ?? name ?? "";
}

/** A tomogram in a list: name, and a line of small print. */
export function entry(node) {
  const { sample, scan_id: scan, status, created, frames_used: used } = node.metadata;
  const when = created ? new Date(1000 * created).toLocaleString() : "";
  const name = sample || (scan != null ? `scan ${scan}` : node.id.slice(0, 8));
  return { name, status: status ?? "idle", small: [scan != null && `scan ${scan}`, when, used && `${used} angles`].filter(Boolean).join(", ") };
}

/** Pairs for the list of facts. */
export function facts(id, metadata, volume) {
  const pixel = metadata.geometry?.pixel_size_nm, shape = volume?.structure?.shape;
  return [
    ["uid", id],
    ["runs", (metadata.run_uids ?? []).join(", ")],
    ["profile", metadata.profile],
    ["shape (z, y, x)", shape?.join(" x ")],
    ["voxel", pixel ? `${Number(pixel.toPrecision(4))} nm` : null],
    ["axis", metadata.geometry?.axis ?? metadata.axis],
    ["measurement", metadata.measurement],
    ["prior", metadata.prior],
    ["weights", metadata.weights_sha256?.slice(0, 12)],
    ["device", metadata.device],
    ["software", metadata.software],
    ["status", [metadata.status, metadata.reason].filter(Boolean).join(": ")],
  ].filter(([, value]) => value != null && value !== "");
}
