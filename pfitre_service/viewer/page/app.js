// The page: the list of tomograms, the one that is followed, and what the catalogue says of it.

import * as tiled from "./tiled.js";
import { showWords } from "./aside.js";
import { listen, showChosen } from "./controls.js";
import { begin, forget, showSlices } from "./slices.js";
import { chosen, clamp, emptyTomogram, PICTURES, readLink, shown, soon, view } from "./state.js";
import { entry } from "./words.js";

const LIST_S = 3;
const PROGRESS = ["revision", "phase", "time", "angles_used", "residual", "heldout_error", "heldout_error_physics", "prior_gap"];
const $ = (id) => document.getElementById(id);

let stopFollowing = () => {};

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
  $("list").replaceChildren(...found.map(listed));
  if (focused) $("list").querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  const newest = nodes.find((node) => node.metadata.status !== "references");
  if (!chosen.id && newest) choose(newest.id);
  if (!nodes.length) sayEmpty();
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
  chosen.id = id;
  Object.assign(shown, emptyTomogram(), { located: shown.located });
  forget();
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

function hear(message) {
  if (message.type === "container-child-created") soon("reload", reload, 50);
  if (message.type !== "container-child-metadata-updated") return;
  const child = shown.children[message.key];
  if (!child) return soon("reload", reload, 50);
  child.metadata = message.metadata;
  if (message.key in PICTURES) {
    soon("slices", showSlices, 0); // one drawing for messages that come together
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
  showWords(troubled);
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

/** Reads something of the tomogram, takes it over with `take` if that tomogram is still shown, and says what is new. */
async function refresh(read, take) {
  const id = chosen.id;
  try {
    const answer = await read(id);
    if (id !== chosen.id) return;
    take(answer);
  } catch (error) {
    if (!(error instanceof tiled.Missing)) troubled(error);
  }
  showWords(troubled);
}

const refreshFrames = () => refresh((id) => tiled.table(id, "frames", ["role", "index", "angle"]), ({ role = [], index = [], angle = [] }) => {
  const rows = role.map((name, row) => [name, index[row], angle[row]]).filter(([name]) => name === "projection");
  const every = shown.metadata.parameters?.heldout_every ?? 0;
  shown.angles = rows.map(([, , degrees]) => degrees);
  shown.held = rows.map(([, place]) => every > 0 && place % every === Math.floor(every / 2));
});

const refreshProgress = () => refresh((id) => Promise.all([tiled.table(id, "progress", PROGRESS), tiled.metadata(id)]),
  ([rows, metadata]) => Object.assign(shown, { rows, metadata }));

function troubled(error) {
  if (error instanceof tiled.NeedsKey) {
    if (!$("key").open) $("key").showModal();
  } else if (!(error instanceof tiled.Missing)) connection("lost");
}

// -- the beginning ----------------------------------------------------------------------------------------------------

begin(troubled);
listen();
readLink();
showChosen();
$("search").oninput = refreshList;
$("against").onchange = () => showWords(troubled);
$("key-form").onsubmit = (event) => {
  event.preventDefault();
  tiled.useKey($("key-input").value.trim());
  $("key").close();
  refreshList();
  if (chosen.id) choose(chosen.id);
};
window.onhashchange = () => {
  const before = chosen.id;
  readLink();
  showChosen();
  if (chosen.id && chosen.id !== before) choose(chosen.id);
  else showSlices();
};
refreshList();
if (chosen.id) choose(chosen.id);
setInterval(() => document.hidden || refreshList(), 1000 * LIST_S);
