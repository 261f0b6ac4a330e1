// What is shown and how: the view, what a person chose, the tomogram; and the link that reproduces them.

import { NAMES } from "./colours.js";

export const PICTURES = { volume: "result", physics: "physics alone", expected_error: "expected error", inferred: "inferred part", preview: "preview" };
export const MODES = { solid: "solid", maximum: "brightest" };
export const SIDES = ["", "below", "above"]; // of the cross-hair; what is kept where 3-D is cut

export const view = { shape: [1, 1, 1], position: [0, 0, 0], zoom: 1, middle: [0.5, 0.5, 0.5], swipe: 0.5 };

export const chosen = {
  id: null, picture: "volume", other: "physics", compare: "one", colours: "grey", auto: true, low: 0, high: 1,
  solid: false, mode: "solid", cut: ["", "", ""], turn: null,
};

/** The tomogram: metadata, children by name, what was heard of them, angles of the projections and their places in the array, rows of progress. */
export const shown = emptyTomogram();

export function emptyTomogram() {
  return { metadata: {}, children: {}, heard: new Map(), angles: [], places: [], rows: {}, located: false };
}

export const clamp = (at, size) => Math.min(size - 1, Math.max(0, Math.round(at)));

/** The revision of a picture that is stored, null where there is none; and the last one that brought other values. */
export const revisionOf = (name) => shown.children[name]?.metadata?.revision ?? null;
export const changeOf = (name) => shown.children[name]?.metadata?.changed ?? revisionOf(name);

export function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  const word = (name, allowed, fallback) => (allowed.includes(link.get(name)) ? link.get(name) : fallback);
  const number = (name) => (link.has(name) && Number.isFinite(Number(link.get(name))) ? Number(link.get(name)) : null);
  const all = (names) => {
    const values = names.map(number);
    return values.every((value) => value != null) ? values : null;
  };
  chosen.id = link.get("t");
  chosen.picture = word("picture", Object.keys(PICTURES), "volume");
  chosen.other = word("other", Object.keys(PICTURES), "physics");
  chosen.compare = word("compare", ["one", "swipe", "side"], "one");
  chosen.colours = word("colours", NAMES, "grey");
  chosen.solid = link.has("3d");
  chosen.mode = word("3d", Object.keys(MODES), "solid");
  chosen.cut = ["cutz", "cuty", "cutx"].map((name) => word(name, SIDES, ""));
  chosen.turn = all(["around", "above", "away"]);
  chosen.auto = number("low") == null || number("high") == null;
  if (!chosen.auto) Object.assign(chosen, { low: number("low"), high: number("high") });
  view.swipe = (number("swipe") ?? 50) / 100;
  view.zoom = number("zoom") ?? 1;
  const position = all(["z", "y", "x"]), middle = all(["mz", "my", "mx"]);
  if (position) Object.assign(view, { position });
  if (middle) Object.assign(view, { middle });
  shown.located = position != null;
}

export function writeLink() {
  const link = new URLSearchParams();
  if (chosen.id) link.set("t", chosen.id);
  for (const name of ["picture", "other", "compare", "colours"]) link.set(name, chosen[name]);
  ["z", "y", "x"].forEach((name, axis) => link.set(name, view.position[axis]));
  if (view.zoom > 1) {
    link.set("zoom", view.zoom.toFixed(3));
    ["mz", "my", "mx"].forEach((name, axis) => link.set(name, view.middle[axis].toFixed(4)));
  }
  if (chosen.compare === "swipe") link.set("swipe", Math.round(100 * view.swipe));
  if (!chosen.auto) for (const name of ["low", "high"]) link.set(name, chosen[name]);
  if (chosen.solid) {
    link.set("3d", chosen.mode);
    ["cutz", "cuty", "cutx"].forEach((name, axis) => chosen.cut[axis] && link.set(name, chosen.cut[axis]));
    if (chosen.turn) ["around", "above", "away"].forEach((name, place) => link.set(name, chosen.turn[place].toFixed(2)));
  }
  history.replaceState(null, "", `#${link}`);
}

const due = new Map();

/** Calls `what` soon, once for many requests. */
export function soon(name, what, ms) {
  if (due.has(name)) return;
  due.set(name, setTimeout(() => {
    due.delete(name);
    what();
  }, ms));
}
