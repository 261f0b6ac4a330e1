// The page: the list of tomograms, the one that is followed, and what the catalogue says of it.

import * as tiled from "./tiled.js";
import { showWords } from "./aside.js";
import { listen, showChosen } from "./controls.js";
import { begin, forget, showSlices } from "./slices.js";
import { chosen, clamp, emptyTomogram, PICTURES, readLink, shown, soon, view } from "./state.js";
import { entry } from "./words.js";

const LIST_MS = 500;
const FRAMES_MS = 3000; // the angles come as a whole table
const AGAIN_MS = 2000;
const PROGRESS = ["revision", "phase", "time", "angles_used", "residual", "heldout_error", "heldout_error_physics", "prior_gap"];
const $ = (id) => document.getElementById(id);

let stopFollowing = () => {};
let stopList = () => {};
let nodes = []; // tomograms, the newest first
const told = new Map(); // what was heard of them
const lost = new Set(); // connections

// -- the list ---------------------------------------------------------------------------------------------------------

async function refreshList() {
  const begun = performance.now();
  try {
    nodes = await tiled.tomograms();
    takeAgain(told, begun);
  } catch (error) {
    return troubled(error);
  }
  showList();
  if (!chosen.id) connection("answers", "live");
  const newest = nodes.find((node) => node.metadata.status !== "references");
  if (!chosen.id && newest) choose(newest.id);
  if (!nodes.length) sayEmpty();
}

function followList() {
  stopList();
  stopList = tiled.follow("", hearOfAll, (state) => {
    connection("list", state);
    if (state === "live") refreshList();
  });
  refreshList();
}

function hearOfAll(message) {
  if (message.type === "container-child-created") soon("created", refreshList, LIST_MS);
  if (message.type !== "container-child-metadata-updated") return;
  const { key, metadata } = message;
  hearNow(told, key, () => Object.assign(nodes.find((node) => node.id === key) ?? {}, { metadata }));
  soon("list", showList, LIST_MS);
  if (key !== chosen.id) return;
  hearNow(shown.heard, "", () => Object.assign(shown, { metadata }));
  soon("words", sayWords, 0);
}

function showList() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = nodes.filter((node) => {
    const { name, small, status } = entry(node);
    return words.every((word) => `${node.id} ${name} ${small} ${status}`.toLowerCase().includes(word));
  });
  const focused = document.activeElement?.dataset?.id;
  $("list").replaceChildren(...found.map(listed));
  if (focused) $("list").querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}

function listed(node) {
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
  lost.delete("tomogram");
  chosen.id = id;
  Object.assign(shown, emptyTomogram(), { located: shown.located });
  forget();
  $("empty").hidden = true;
  for (const button of $("list").querySelectorAll("button")) button.setAttribute("aria-current", String(button.dataset.id === id));
  stopFollowing = tiled.follow(id, hear, (state) => {
    connection("tomogram", state);
    if (state === "live") reload(); // what came before the socket stood
  });
  await reload();
}

/** Says whether all connections that the page has are there. */
function connection(which, state) {
  if (state === "lost") lost.add(which);
  else lost.delete(which);
  $("connection").dataset.state = lost.size ? "lost" : "live";
  $("connection").textContent = lost.size ? "connection lost, trying again" : "live";
}

/** Takes over what a message says of something, and keeps it for answers that are on their way and older. */
function hearNow(messages, name, take) {
  messages.set(name, { at: performance.now(), take });
  take();
}

/** Takes over again, in an answer that was asked for at `begun`, what messages have said since. */
function takeAgain(messages, begun) {
  for (const { at, take } of messages.values()) if (at > begun) take();
}

function hear(message) {
  if (message.type === "container-child-created") soon("reload", reload, 50);
  if (message.type !== "container-child-metadata-updated") return;
  const { key, metadata } = message;
  hearNow(shown.heard, key, () => Object.assign(shown.children[key] ?? {}, { metadata }));
  if (!shown.children[key]) return soon("reload", reload, 50);
  if (document.hidden) return; // all is read when somebody looks again
  if (key in PICTURES) {
    soon("slices", showSlices, 0); // one drawing for messages that come together
    soon("progress", refreshProgress, 100);
  } else soon("frames", refreshFrames, FRAMES_MS);
}

async function reload() {
  const id = chosen.id, begun = performance.now();
  try {
    const [metadata, children] = await Promise.all([tiled.metadata(id), tiled.children(id)]);
    if (id !== chosen.id) return;
    Object.assign(shown, { metadata, children });
    takeAgain(shown.heard, begun);
  } catch (error) {
    return troubled(error);
  }
  const shape = shown.children.volume?.structure?.shape;
  if (shape) locate(shape);
  connection("answers", "live");
  sayWords();
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

/** Reads a table of the tomogram, if it is there, takes it over with `take` if that tomogram is still shown, and says what is new. */
async function refresh(name, columns, take) {
  const id = chosen.id;
  if (!shown.children[name]) return;
  try {
    const answer = await tiled.table(id, name, columns);
    if (id !== chosen.id) return;
    take(answer);
  } catch (error) {
    if (!(error instanceof tiled.Missing)) troubled(error);
  }
  sayWords();
}

const sayWords = () => showWords(troubled);

const refreshFrames = () => refresh("frames", ["role", "index", "angle"], ({ role = [], index = [], angle = [] }) => {
  const rows = role.map((name, row) => [name, index[row], angle[row]]).filter(([name]) => name === "projection");
  shown.angles = rows.map(([, , degrees]) => degrees);
  shown.places = rows.map(([, place]) => place);
});

const refreshProgress = () => refresh("progress", PROGRESS, (rows) => Object.assign(shown, { rows }));

function troubled(error) {
  if (error instanceof tiled.NeedsKey) {
    if (!$("key").open) $("key").showModal();
  } else if (!(error instanceof tiled.Missing)) {
    connection("answers", "lost");
    soon("again", readAgain, AGAIN_MS);
  }
}

function readAgain() {
  refreshList();
  if (chosen.id) reload();
}

// -- the beginning ----------------------------------------------------------------------------------------------------

begin(troubled);
listen();
readLink();
showChosen();
$("search").oninput = showList;
$("against").onchange = sayWords;
$("key-form").onsubmit = (event) => {
  event.preventDefault();
  tiled.useKey($("key-input").value.trim());
  $("key").close();
  followList();
  if (chosen.id) choose(chosen.id);
};
window.onhashchange = () => {
  const before = chosen.id;
  readLink();
  showChosen();
  if (chosen.id && chosen.id !== before) choose(chosen.id);
  else showSlices();
};
document.addEventListener("visibilitychange", () => document.hidden || readAgain());
followList();
if (chosen.id) choose(chosen.id);
