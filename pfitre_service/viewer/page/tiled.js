// Tiled's HTTP and websocket interface, as far as the page needs it.

const ROOT = new URL("../api/v1/", document.baseURI);
const PAGE = 50;

export class NeedsKey extends Error {}
export class Missing extends Error {}

let key = sessionStorage.getItem("pfitre-key");

export function useKey(value) {
  key = value;
  sessionStorage.setItem("pfitre-key", value);
}

const STEERING = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu;

/** JSON whose texts show what is not to be seen, such as marks that turn the direction of what stands beside them. */
function parsed(text) {
  const shown = (sign) => ("\n\t".includes(sign) ? sign : `\\u{${sign.codePointAt(0).toString(16)}}`);
  return JSON.parse(text, (_, value) => (typeof value === "string" ? value.replace(STEERING, shown) : value));
}

export const hasKey = () => key != null;

/** A file of this server, read with the key: its content and its name. */
export async function file(url) {
  const answer = await fetch(url, { headers: { Authorization: `Apikey ${key}` } });
  if (answer.status === 401 || answer.status === 403) throw new NeedsKey("a key is needed");
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `the server answered ${answer.status}`);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "";
  return { blob: await answer.blob(), name };
}

async function ask(path, parameters, signal) {
  const url = new URL(path, ROOT);
  for (const [name, value] of parameters) url.searchParams.append(name, value);
  const answer = await fetch(url, { signal, headers: key ? { Authorization: `Apikey ${key}` } : {} });
  if (answer.status === 401 || answer.status === 403) throw new NeedsKey("a key is needed");
  if (answer.status === 404) throw new Missing(path);
  if (answer.status === 410) throw new Error((await answer.json().catch(() => ({}))).detail ?? `${path} is damaged in the store`);
  if (!answer.ok) throw new Error(`${path}: the server answered ${answer.status}`);
  return answer;
}

/** Of all tomograms, of one, or of something in it. */
const path = (id = "", name = "") => ["tomograms", encodeURIComponent(id), name].filter(Boolean).join("/");

async function search(where, parameters, signal) {
  const answer = parsed(await (await ask(`search/${where}`, [["omit_links", "true"], ...parameters], signal)).text());
  return answer.data.map((node) => ({ id: node.id, ...node.attributes }));
}

/** The newest tomograms, newest first. */
export const tomograms = (signal) => search(path(), [["page[limit]", PAGE], ["sort", "-"]], signal);

/** {volume, physics, expected_error, frames, progress} of one tomogram, as far as they are there. */
export async function children(id, signal) {
  const nodes = await search(path(id), [["page[limit]", PAGE]], signal);
  return Object.fromEntries(nodes.map((node) => [node.id, node]));
}

export async function metadata(id, signal) {
  const answer = parsed(await (await ask(`metadata/${path(id)}`, [["omit_links", "true"]], signal)).text());
  return answer.data.attributes.metadata;
}

/** Columns of a table by name; an empty table is {}. */
export async function table(id, name, columns, signal) {
  const chosen = columns.map((column) => ["column", column]);
  return (await ask(`table/full/${path(id, name)}`, [["format", "application/json"], ...chosen], signal)).json();
}

/** One slice as Float32Array: axis 0, 1, 2 is z, y, x. */
export async function slice(id, name, axis, index, signal) {
  const chosen = [":", ":", ":"];
  chosen[axis] = String(index);
  const parameters = [["slice", chosen.join(",")], ["format", "application/octet-stream"]];
  return new Float32Array(await (await ask(`array/full/${path(id, name)}`, parameters, signal)).arrayBuffer());
}

/** A whole array, every `step`-th element along each axis, as Float32Array. */
export async function thinned(id, name, step, signal) {
  const parameters = [["slice", [0, 1, 2].map(() => `::${step}`).join(",")], ["format", "application/octet-stream"]];
  return new Float32Array(await (await ask(`array/full/${path(id, name)}`, parameters, signal)).arrayBuffer());
}

/** Calls `hear(message)` with what changes directly below a tomogram (below all of them for ""), and `state("live" | "lost")`; returns how to stop. */
export function follow(id, hear, state) {
  let socket, timer, stopped = false, pause = 500;
  const open = () => {
    const url = new URL(`stream/single/${path(id)}`, ROOT);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("envelope_format", "json");
    socket = new WebSocket(url);
    socket.onopen = () => {
      if (key) socket.send(JSON.stringify({ type: "auth", api_key: key }));
      pause = 500;
      state("live");
    };
    socket.onmessage = (event) => hear(parsed(event.data));
    socket.onclose = () => {
      if (stopped) return;
      state("lost");
      timer = setTimeout(open, pause);
      pause = Math.min(2 * pause, 5000);
    };
  };
  open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    socket.close();
  };
}
