// The page's state, and what happens when it changes.

import * as tiled from "./tiled.js";
import { NAMES, window_of } from "./colours.js";
import { links } from "./downloads.js";
import { curves, dial } from "./drawings.js";
import { CUTS, Panel } from "./panel.js";
import { entry, facts, phase, sentence } from "./words.js";

const PICTURES = { volume: "result", physics: "physics", trust: "expected error", inferred: "inferred part" };
const LIST_S = 3;
const KEPT = 60; // slices; 60 of 512 x 512 are 63 MB
const $ = (id) => document.getElementById(id);

const view = { shape: [1, 1, 1], position: [0, 0, 0], zoom: 1, middle: [0.5, 0.5, 0.5], swipe: 0.5 };
const chosen = { id: null, picture: "volume", other: "physics", compare: "one", colours: "grey", auto: true, low: 0, high: 1 };
let shown = emptyTomogram();
let panels = [];
let stopFollowing = () => {};
let slices = new Map(); // "name axis index revision" to a promise of values; the newest last
let asked = 0;

function emptyTomogram() {
  return { metadata: {}, children: {}, angles: [], held: [], rows: {}, located: false };
}

// -- the link ---------------------------------------------------------------------------------------------------------

function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  const word = (name, allowed, fallback) => (allowed.includes(link.get(name)) ? link.get(name) : fallback);
  const number = (name) => (link.has(name) && Number.isFinite(Number(link.get(name))) ? Number(link.get(name)) : null);
  chosen.id = link.get("t");
  chosen.picture = word("picture", Object.keys(PICTURES), "volume");
  chosen.other = word("other", Object.keys(PICTURES), "physics");
  chosen.compare = word("compare", ["one", "swipe", "side"], "one");
  chosen.colours = word("colours", NAMES, "grey");
  chosen.auto = number("low") == null || number("high") == null;
  if (!chosen.auto) Object.assign(chosen, { low: number("low"), high: number("high") });
  view.swipe = (number("swipe") ?? 50) / 100;
  view.zoom = number("zoom") ?? 1;
  const position = ["z", "y", "x"].map(number), middle = ["mz", "my", "mx"].map(number);
  if (position.every((value) => value != null)) Object.assign(view, { position });
  if (middle.every((value) => value != null)) Object.assign(view, { middle });
  shown.located = position.every((value) => value != null);
}

function writeLink() {
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
  history.replaceState(null, "", `#${link}`);
}

// -- the list ---------------------------------------------------------------------------------------------------------

async function refreshList() {
  let nodes;
  try {
    nodes = await tiled.tomograms();
  } catch (error) {
    return troubled(error);
  }
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = nodes.filter((node) => {
    const { name, small, status } = entry(node);
    return words.every((word) => `${node.id} ${name} ${small} ${status}`.toLowerCase().includes(word));
  });
  const focused = document.activeElement?.dataset?.id;
  $("list").replaceChildren(...found.map((node) => {
    const { name, small, status } = entry(node), item = document.createElement("li"), button = document.createElement("button");
    button.dataset.id = node.id;
    button.setAttribute("aria-current", String(node.id === chosen.id));
    const [title, state, print] = ["strong", "span", "small"].map((tag) => document.createElement(tag));
    title.textContent = name;
    state.textContent = status;
    state.className = `state-${status}`;
    print.textContent = small;
    button.append(title, state, print);
    button.onclick = () => choose(node.id);
    item.append(button);
    return item;
  }));
  if (focused) $("list").querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  const newest = nodes.find((node) => node.metadata.status !== "references");
  if (!chosen.id && newest) choose(newest.id);
  if (!nodes.length) sayEmpty();
}

function sayEmpty() {
  $("empty").hidden = false;
  $("empty").innerHTML = `<h2>No tomogram yet</h2><p>This page shows tomograms as soon as a scan is heard. In a RunEngine:</p>
<pre>from bluesky.callbacks.zmq import Publisher
RE.subscribe(Publisher("127.0.0.1:5567"))</pre><p>or, without a beamline, in a terminal:</p><pre>pfitre demo --keep</pre>
<p>Nothing to do here: the first slices come by themselves.</p>`;
}

// -- one tomogram -----------------------------------------------------------------------------------------------------

async function choose(id) {
  stopFollowing();
  chosen.id = id;
  const located = shown.located;
  shown = emptyTomogram();
  shown.located = located;
  slices = new Map();
  $("empty").hidden = true;
  for (const button of $("list").querySelectorAll("button")) button.setAttribute("aria-current", String(button.dataset.id === id));
  stopFollowing = tiled.follow(id, hear, connection);
  await reload();
}

function connection(state) {
  const lost = $("connection").dataset.state === "lost";
  $("connection").dataset.state = state;
  $("connection").textContent = state === "live" ? "live" : "connection lost, trying again";
  if (state === "live" && lost) {
    reload();
    refreshList();
  }
}

const due = new Map();

/** Calls `what` soon, once for many requests. */
function soon(name, what, ms) {
  if (due.has(name)) return;
  due.set(name, setTimeout(() => {
    due.delete(name);
    what();
  }, ms));
}

function hear(message) {
  if (message.type === "container-child-created") soon("reload", reload, 50);
  if (message.type !== "container-child-metadata-updated") return;
  const child = shown.children[message.key];
  if (!child) return soon("reload", reload, 50);
  child.metadata = message.metadata;
  if (message.key in PICTURES) {
    showSlices();
    soon("progress", refreshProgress, 100);
  } else soon("frames", refreshFrames, 500);
}

async function reload() {
  const id = chosen.id;
  try {
    const [metadata, children] = await Promise.all([tiled.metadata(id), tiled.children(id)]);
    if (id !== chosen.id) return;
    Object.assign(shown, { metadata, children });
  } catch (error) {
    return troubled(error);
  }
  const shape = shown.children.volume?.structure?.shape;
  if (shape) locate(shape);
  showWords();
  showSlices();
  await Promise.all([refreshFrames(), refreshProgress()]);
}

function locate(shape) {
  const same = shape.every((size, axis) => size === view.shape[axis]);
  view.shape = shape;
  if (!shown.located && !same) view.position = shape.map((size) => Math.floor(size / 2));
  shown.located = true;
  view.position = view.position.map((at, axis) => clamp(at, shape[axis]));
}

const clamp = (at, size) => Math.min(size - 1, Math.max(0, Math.round(at)));

async function refreshFrames() {
  const id = chosen.id;
  try {
    const { role = [], index = [], angle = [] } = await tiled.table(id, "frames", ["role", "index", "angle"]);
    if (id !== chosen.id) return;
    const rows = role.map((name, row) => [name, index[row], angle[row]]).filter(([name]) => name === "projection");
    const every = shown.metadata.parameters?.heldout_every ?? 0;
    shown.angles = rows.map(([, , degrees]) => degrees);
    shown.held = rows.map(([, place]) => every > 0 && place % every === Math.floor(every / 2));
  } catch (error) {
    if (!(error instanceof tiled.Missing)) troubled(error);
  }
  showWords();
}

async function refreshProgress() {
  const id = chosen.id;
  try {
    const columns = ["revision", "phase", "time", "angles_used", "residual", "heldout_error", "heldout_error_physics", "prior_gap"];
    const [rows, metadata] = await Promise.all([tiled.table(id, "progress", columns), tiled.metadata(id)]);
    if (id !== chosen.id) return;
    Object.assign(shown, { rows, metadata });
  } catch (error) {
    if (!(error instanceof tiled.Missing)) troubled(error);
  }
  showWords();
}

function troubled(error) {
  if (error instanceof tiled.NeedsKey) {
    if (!$("key").open) $("key").showModal();
  } else if (!(error instanceof tiled.Missing)) connection("lost");
}

// -- words and curves -------------------------------------------------------------------------------------------------

function showWords() {
  const { metadata, children, angles, held, rows } = shown;
  const frames = children.frames?.metadata ?? {}, row = (rows.revision?.length ?? 0) - 1;
  const progress = row >= 0 ? Object.fromEntries(Object.entries(rows).map(([name, column]) => [name, column[row]])) : {};
  const heldout = rows.heldout_error?.findLast((value) => value > 0), physics = rows.heldout_error_physics?.findLast((value) => value > 0);
  const state = metadata.status === "final" || metadata.status === "failed" ? metadata.status : phase(progress.phase) || metadata.status;
  $("what").textContent = [entry({ id: chosen.id ?? "", metadata }).name, state, progress.revision && `revision ${progress.revision}`].filter(Boolean).join(", ");
  setText($("sentence"), metadata.status === "failed" ? `No volume: ${metadata.reason}` : metadata.trust?.sentence ?? sentence(metadata.status, angles, { ...progress, heldout_error: heldout, heldout_error_physics: physics }));
  const expected = frames.expected_frames ?? (frames.state === "receiving" ? null : angles.length);
  if (expected) $("progress").value = angles.length / expected;
  else $("progress").removeAttribute("value");
  const lag = angles.length - (progress.angles_used ?? 0);
  $("progress-text").textContent = `${angles.length}${expected ? ` of ${expected}` : ""} received${lag > 0 && state !== "final" ? `, ${lag} waiting` : ""}${ending(frames, angles.length, expected)}`;
  $("dial").replaceChildren(...dial(angles, held, metadata.trust?.next_angle));
  $("curves").replaceChildren(curves(rows, $("against").value));
  const warnings = metadata.warnings ?? [];
  $("warnings-box").hidden = !warnings.length;
  $("warnings-box").firstElementChild.textContent = `${warnings.length} warning${warnings.length > 1 ? "s" : ""}`;
  $("warnings").replaceChildren(...warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  showDownloads();
  $("facts").replaceChildren(...facts(chosen.id, metadata, children.volume).flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }),
  ]));
}

/** Made once for each tomogram, so that a link keeps the keyboard's focus. */
function showDownloads() {
  const there = shown.children.volume?.metadata?.revision != null;
  $("downloads").hidden = !there;
  if (!there || $("downloads").dataset.id === chosen.id) return;
  $("downloads").dataset.id = chosen.id;
  $("downloads").replaceChildren(...links(chosen.id, (text) => setText($("download-state"), text), troubledDownload));
}

function troubledDownload(error) {
  if (error instanceof tiled.NeedsKey) troubled(error);
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

// -- slices -----------------------------------------------------------------------------------------------------------

function arrange() {
  for (const panel of panels) panel.close();
  const side = chosen.compare === "side";
  const act = { move, whole, drawn, window: dragWindow };
  const pictures = side ? [chosen.picture, chosen.other] : [null];
  panels = pictures.flatMap((picture) => CUTS.map((cut) => new Panel(cut, picture && PICTURES[picture], view, act)));
  panels.forEach((panel, place) => {
    panel.names = side ? [pictures[Math.floor(place / CUTS.length)]] : chosen.compare === "swipe" ? [chosen.picture, chosen.other] : [chosen.picture];
  });
  $("panels").className = side ? "side" : "";
  $("panels").replaceChildren(...panels.map((panel) => panel.figure));
  $("other-label").hidden = chosen.compare === "one";
  $("swipe-label").hidden = chosen.compare !== "swipe";
}

function load(name, axis, index) {
  const revision = shown.children[name]?.metadata?.revision;
  if (revision == null) return null;
  const key = `${name} ${axis} ${index} ${revision}`;
  const known = slices.get(key);
  slices.delete(key);
  const values = known ?? tiled.slice(chosen.id, name, axis, index);
  slices.set(key, values);
  values.catch(() => slices.delete(key));
  for (const old of [...slices.keys()].slice(0, Math.max(0, slices.size - KEPT))) slices.delete(old);
  return values;
}

async function showSlices() {
  const ticket = ++asked;
  writeLink();
  for (const panel of panels) panel.draw();
  try {
    const loaded = await Promise.all(panels.map((panel) => Promise.all(panel.names.map((name) => load(name, panel.cut.axis, view.position[panel.cut.axis])))));
    if (ticket !== asked) return;
    if (chosen.auto) [chosen.low, chosen.high] = window_of(loaded.flat().filter(Boolean));
    panels.forEach((panel, place) => panel.show(loaded[place], chosen));
    showWindow();
    const revision = shown.children[chosen.picture]?.metadata?.revision;
    $("panels").dataset.revision = revision ?? "";
    performance.mark("pfitre-drawn", { detail: { revision } });
    if (performance.getEntriesByName("pfitre-drawn").length > 50) performance.clearMarks("pfitre-drawn");
  } catch (error) {
    troubled(error);
  }
}

function showWindow() {
  for (const name of ["low", "high"]) if (document.activeElement !== $(name)) $(name).value = Number(chosen[name].toPrecision(4));
  $("auto").setAttribute("aria-pressed", String(chosen.auto));
}

function move(places) {
  view.position = view.position.map((at, axis) => clamp(places[axis] ?? at, view.shape[axis]));
  showSlices();
}

function whole() {
  Object.assign(view, { zoom: 1, middle: [0.5, 0.5, 0.5] });
  drawn();
}

function drawn() {
  for (const panel of panels) panel.draw();
  soon("link", writeLink, 200);
}

function dragWindow(wider, brighter) {
  const width = chosen.high - chosen.low, middle = (chosen.high + chosen.low) / 2 - brighter * width;
  const half = Math.max(1e-12, (width / 2) * Math.exp(wider));
  setWindow(middle - half, middle + half);
}

function setWindow(low, high) {
  if (!(Number.isFinite(low) && Number.isFinite(high) && high > low)) return;
  Object.assign(chosen, { auto: false, low, high });
  showSlices();
}

// -- controls ---------------------------------------------------------------------------------------------------------

function fill(select, options, value) {
  select.replaceChildren(...Object.entries(options).map(([name, words]) => new Option(words, name, false, name === value)));
}

function setPicture(name) {
  chosen.picture = name;
  $("picture").value = name;
  arrange();
  showSlices();
}

function setCompare(how) {
  chosen.compare = how;
  $("compare").value = how;
  arrange();
  showSlices();
}

function setAuto() {
  chosen.auto = true;
  showSlices();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("pfitre-theme", theme);
}

const otherTheme = () => (document.documentElement.dataset.theme === "light" ? "dark" : "light");

function controls() {
  fill($("picture"), PICTURES, chosen.picture);
  fill($("other"), PICTURES, chosen.other);
  fill($("colours"), Object.fromEntries(NAMES.map((name) => [name, name])), chosen.colours);
  $("compare").value = chosen.compare;
  $("swipe").value = 100 * view.swipe;
  $("picture").onchange = () => setPicture($("picture").value);
  $("other").onchange = () => {
    chosen.other = $("other").value;
    arrange();
    showSlices();
  };
  $("compare").onchange = () => setCompare($("compare").value);
  $("colours").onchange = () => {
    chosen.colours = $("colours").value;
    showSlices();
  };
  $("swipe").oninput = () => {
    view.swipe = $("swipe").value / 100;
    drawn();
  };
  $("low").onchange = $("high").onchange = () => setWindow(Number($("low").value), Number($("high").value));
  $("auto").onclick = setAuto;
  $("whole").onclick = whole;
  $("against").onchange = showWords;
  $("search").oninput = refreshList;
  $("theme-button").onclick = () => setTheme(otherTheme());
  $("help-button").onclick = () => $("help").showModal();
  $("list-button").onclick = () => {
    const hidden = document.querySelector("main").classList.toggle("without-list");
    $("list-button").setAttribute("aria-expanded", String(!hidden));
  };
  $("link-button").onclick = async () => {
    writeLink();
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    $("link-button").textContent = "Link is in the address bar";
    setTimeout(() => ($("link-button").textContent = "Copy link"), 2000);
  };
  $("key-form").onsubmit = (event) => {
    event.preventDefault();
    tiled.useKey($("key-input").value.trim());
    $("key").close();
    refreshList();
    if (chosen.id) choose(chosen.id);
  };
  document.onkeydown = (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      1: () => setPicture("volume"), 2: () => setPicture("physics"), 3: () => setPicture("trust"), 4: () => setPicture("inferred"), 0: whole, a: setAuto,
      s: () => setCompare(chosen.compare === "swipe" ? "one" : "swipe"), t: () => setTheme(otherTheme()), "?": () => $("help").showModal(),
    };
    keys[event.key]?.();
  };
  window.onhashchange = () => {
    const before = chosen.id;
    readLink();
    controls();
    arrange();
    if (chosen.id && chosen.id !== before) choose(chosen.id);
    else showSlices();
  };
}

setTheme(localStorage.getItem("pfitre-theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
readLink();
controls();
arrange();
refreshList();
if (chosen.id) choose(chosen.id);
setInterval(() => document.hidden || refreshList(), 1000 * LIST_S);
