// The slices on the screen: which panels there are, what they show, and what a hand changes.

import * as tiled from "./tiled.js";
import { window_of } from "./colours.js";
import { CUTS, Panel } from "./panel.js";
import { Solid } from "./solid.js";
import { changeOf, chosen, clamp, PICTURES, revisionOf, shown, soon, view, writeLink } from "./state.js";

const KEPT = 60; // slices; 60 of 512 x 512 are 63 MB
const $ = (id) => document.getElementById(id);

let panels = [];
let solid = null;
let slices = new Map(); // "name axis index change" to a promise of values; the newest last
let asked = 0;
let troubled = () => {};

/** `trouble(error)` is told what went wrong on the way to the catalogue. */
export function begin(trouble) {
  troubled = trouble;
}

/** Lays the panels out anew, as they were chosen. */
export function arrange() {
  for (const panel of panels) panel.close();
  const side = chosen.compare === "side";
  const act = { move, whole, drawn, window: dragWindow };
  const pictures = side ? [chosen.picture, chosen.other] : [null];
  panels = pictures.flatMap((picture) => CUTS.map((cut) => new Panel(cut, picture && PICTURES[picture], view, act)));
  panels.forEach((panel, place) => {
    panel.names = side ? [pictures[Math.floor(place / CUTS.length)]] : chosen.compare === "swipe" ? [chosen.picture, chosen.other] : [chosen.picture];
  });
  if (chosen.solid) solid ??= new Solid();
  else {
    solid?.close();
    solid = null;
  }
  $("panels").className = [side && "side", solid && "with-solid"].filter(Boolean).join(" ");
  $("panels").replaceChildren(...panels.map((panel) => panel.figure), ...(solid ? [solid.figure] : []));
  $("other-label").hidden = chosen.compare === "one";
  $("swipe-label").hidden = chosen.compare !== "swipe";
  $("solid").setAttribute("aria-pressed", String(chosen.solid));
}

/** Forgets the slices of another tomogram. */
export function forget() {
  slices = new Map();
}

function load(name, axis, index) {
  const change = changeOf(name);
  if (change == null) return null;
  const key = `${name} ${axis} ${index} ${change}`;
  const known = slices.get(key);
  slices.delete(key);
  const values = known ?? tiled.slice(chosen.id, name, axis, index);
  slices.set(key, values);
  values.catch(() => slices.delete(key));
  for (const old of [...slices.keys()].slice(0, Math.max(0, slices.size - KEPT))) slices.delete(old);
  return values;
}

/** Shows the slices at the cross-hair, of the newest revision. */
export async function showSlices() {
  const ticket = ++asked;
  writeLink();
  for (const panel of panels) panel.draw();
  solid?.cut();
  try {
    const loaded = await Promise.all(panels.map((panel) => Promise.all(panel.names.map((name) => load(name, panel.cut.axis, view.position[panel.cut.axis])))));
    if (ticket !== asked) return;
    if (chosen.auto) [chosen.low, chosen.high] = window_of(loaded.flat().filter(Boolean));
    panels.forEach((panel, place) => panel.show(loaded[place], chosen));
    showWindow();
    const revision = revisionOf(chosen.picture);
    $("panels").dataset.revision = revision ?? "";
    performance.mark("pfitre-drawn", { detail: { revision, published: shown.children[chosen.picture]?.metadata?.time } });
    if (performance.getEntriesByName("pfitre-drawn").length > 50) performance.clearMarks("pfitre-drawn");
    await solid?.refresh();
  } catch (error) {
    troubled(error);
  }
}

function showWindow() {
  for (const name of ["low", "high"]) if (document.activeElement !== $(name)) $(name).value = Number(chosen[name].toPrecision(4));
  $("auto").setAttribute("aria-pressed", String(chosen.auto));
}

export function move(places) {
  view.position = view.position.map((at, axis) => clamp(places[axis] ?? at, view.shape[axis]));
  showSlices();
}

export function whole() {
  Object.assign(view, { zoom: 1, middle: [0.5, 0.5, 0.5] });
  drawn();
}

/** Draws what is there again: zoom or swipe have changed. */
export function drawn() {
  for (const panel of panels) panel.draw();
  soon("link", writeLink, 200);
}

function dragWindow(wider, brighter) {
  const width = chosen.high - chosen.low, middle = (chosen.high + chosen.low) / 2 - brighter * width;
  const half = Math.max(1e-12, (width / 2) * Math.exp(wider));
  setWindow(middle - half, middle + half);
}

export function setWindow(low, high) {
  if (!(Number.isFinite(low) && Number.isFinite(high) && high > low)) return;
  Object.assign(chosen, { auto: false, low, high });
  showSlices();
}

export function setAuto() {
  chosen.auto = true;
  showSlices();
}
