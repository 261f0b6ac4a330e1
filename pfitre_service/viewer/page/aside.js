// Beside the slices: how far they may be believed, how the scan goes on, how they were made.

import * as tiled from "./tiled.js";
import { links } from "./downloads.js";
import { curves, dial } from "./drawings.js";
import { chosen, shown } from "./state.js";
import { entry, facts, phase, waiting } from "./words.js";

const $ = (id) => document.getElementById(id);

/** Says all that is known of the tomogram; `troubled(error)` is told why a download was refused. */
export function showWords(troubled) {
  const { metadata, children, angles, places, rows } = shown;
  const frames = children.frames?.metadata ?? {}, quality = metadata.quality ?? {}, row = (rows.revision?.length ?? 0) - 1;
  const received = Math.max(angles.length, frames.counts?.projection ?? 0);
  const progress = row >= 0 ? Object.fromEntries(Object.entries(rows).map(([name, column]) => [name, column[row]])) : {};
  const ended = metadata.status === "final" || metadata.status === "failed";
  const state = ended ? metadata.status : phase(progress.phase) || metadata.status;
  $("what").textContent = [entry({ id: chosen.id ?? "", metadata }).name, state, progress.revision && `revision ${progress.revision}`].filter(Boolean).join(", ");
  setText($("sentence"), metadata.status === "failed" ? `No volume: ${metadata.reason}` : quality.sentence ?? waiting(metadata.status, received, progress.revision));
  const expected = frames.expected_frames ?? (frames.state === "receiving" ? null : received);
  $("progress").value = expected ? received / expected : 0;
  $("progress").style.visibility = expected ? "" : "hidden"; // a bar that runs to and fro would keep a processor busy
  const lag = received - (progress.angles_used ?? 0);
  $("progress-text").textContent = `${received}${expected ? ` of ${expected}` : ""} received${lag > 0 && state !== "final" ? `, ${lag} waiting` : ""}${ending(frames, received, expected)}`;
  const { first, every } = metadata.heldout ?? {};
  const held = () => places.map((place) => place % every === first);
  draw($("dial"), () => dial(angles, held(), quality.measured ?? [], quality.next_angle), angles, every, metadata.quality);
  draw($("curves"), () => [curves(rows, $("against").value, quality.noise_floor)], rows, $("against").value, metadata.quality);
  const warnings = metadata.warnings ?? [];
  $("warnings-box").hidden = !warnings.length;
  $("warnings-box").firstElementChild.textContent = `${warnings.length} warning${warnings.length > 1 ? "s" : ""}`;
  draw($("warnings"), () => warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })), metadata);
  showDownloads(troubled);
  draw($("facts"), () => facts(chosen.id, metadata, children.volume).flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }),
  ]), metadata, children.volume);
}

/** Made once for each tomogram, so that a link keeps the keyboard's focus. */
function showDownloads(troubled) {
  const there = shown.children.volume?.metadata?.revision != null;
  $("downloads").hidden = !there;
  if (!there || $("downloads").dataset.id === chosen.id) return;
  $("downloads").dataset.id = chosen.id;
  const refused = (error) => error instanceof tiled.NeedsKey && troubled(error);
  $("downloads").replaceChildren(...links(chosen.id, (text) => setText($("download-state"), text), refused));
}

const drawn = new Map();

/** Draws `where` anew if it does not show just these objects. */
function draw(where, made, ...from) {
  const before = drawn.get(where);
  if (before?.every((one, place) => one === from[place])) return;
  drawn.set(where, from);
  where.replaceChildren(...made());
}

/** Sets text only where it is new, so that screen readers do not repeat themselves. */
function setText(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

/** Rate and expected end while a scan runs. */
function ending(frames, received, expected) {
  const times = shown.rows.time ?? [], used = shown.rows.angles_used ?? [];
  if (frames.state !== "receiving" || times.length < 2) return "";
  const from = Math.max(0, times.length - 10), rate = (used.at(-1) - used[from]) / (times.at(-1) - times[from]);
  if (!(rate > 0)) return "";
  const left = expected > received ? `, ${Math.ceil((expected - received) / rate)} s to go` : "";
  return ` (${rate.toPrecision(2)} a second${left})`;
}
