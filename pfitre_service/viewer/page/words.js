// What the numbers mean, in sentences.

import { gaps } from "./drawings.js";

const PHASES = { preview: "first picture", iterating: "the scan runs", converging: "converging", refit: "with the held-out angles as well", final: "final" };

/** One sentence on how far the picture may be believed. */
export function sentence(status, angles, progress) {
  if (status === "references") return "Flats and darks, for other runs.";
  if (!progress?.revision) return angles.length ? "No volume yet." : "No projection yet.";
  const wide = gaps(angles).map(([from, to]) => `${shown(to)} to ${shown(from + 180)}`);
  const missing = gaps(angles).reduce((sum, [from, to]) => sum + to - from, 0);
  const seen = missing > 5
    ? `${angles.length} angles cover ${wide.join(" and ")} degrees: edges along the missing ${missing.toFixed(0)} degrees are inferred, not measured.`
    : `${angles.length} angles cover all directions.`;
  const { heldout_error: held, heldout_error_physics: physics } = progress;
  if (!(held > 0)) return `${seen} Nothing is held out, so the error is not measured.`;
  const better = physics > 0 ? ` (${held < physics ? "" : "not "}better than physics alone, ${percent(physics)})` : "";
  return `${seen} It predicts projections that it has not seen to ${percent(held)}${better}.`;
}

const percent = (share) => `${(100 * share).toPrecision(2)} %`;

const shown = (angle) => {
  const folded = ((angle + 90) % 180 + 180) % 180 - 90;
  return folded.toFixed(0);
};

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
