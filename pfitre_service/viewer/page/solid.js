// The 3-D picture among the slices: fetches a volume thin enough to be quick, turns it, cuts it at the cross-hair.

import * as tiled from "./tiled.js";
import { table } from "./colours.js";
import { changeOf, chosen, MODES, revisionOf, SIDES, soon, view, writeLink } from "./state.js";

const LONGEST = 160; // voxels of the longest side: 160 x 160 x 160 are 16 MB of float32 to fetch
const PAUSE_MS = 3000; // between two volumes while a scan runs
const AXES = ["z", "y", "x"];
const WORDS = { "": "whole", below: "below the cross-hair", above: "above the cross-hair" };

export class Solid {
  constructor() {
    this.figure = document.createElement("figure");
    this.figure.className = "solid";
    this.canvas = Object.assign(document.createElement("canvas"), { tabIndex: 0 });
    this.canvas.setAttribute("role", "img");
    this.canvas.onkeydown = (event) => this.key(event);
    this.said = document.createElement("output");
    const caption = document.createElement("figcaption"), name = document.createElement("span");
    name.textContent = "3-D";
    caption.append(name, this.modes(), ...AXES.map((axis, place) => this.cutter(axis, place)), this.said);
    this.figure.append(this.canvas, caption);
    this.resized = new ResizeObserver(() => this.drawing?.resize());
    this.resized.observe(this.canvas);
    this.ready = this.begin();
  }

  async begin() {
    try {
      const { VolumeView } = await import("./volume.js"); // half a megabyte: fetched by those who look at it
      if (this.closed) return;
      this.drawing = new VolumeView(this.canvas, (turn) => {
        chosen.turn = turn;
        writeLink();
      });
      if (chosen.turn) this.drawing.turn = chosen.turn;
      this.drawing.resize();
    } catch (error) {
      console.warn(error);
      this.said.textContent = "this browser has no WebGL 2, which 3-D needs";
    }
  }

  modes() {
    const select = document.createElement("select");
    select.setAttribute("aria-label", "How 3-D is drawn");
    select.append(...Object.entries(MODES).map(([mode, words]) => new Option(words, mode, false, mode === chosen.mode)));
    select.onchange = () => {
      chosen.mode = select.value;
      this.paint();
      writeLink();
    };
    return select;
  }

  cutter(axis, place) {
    const button = document.createElement("button");
    const tell = () => {
      const side = chosen.cut[place];
      button.textContent = `${axis}${{ "": "", below: "<", above: ">" }[side]}`;
      button.setAttribute("aria-pressed", String(side !== ""));
      button.setAttribute("aria-label", `Cut along ${axis}: ${WORDS[side]} is kept`);
      button.title = `Cut along ${axis} at the cross-hair; now: ${WORDS[side]}`;
    };
    button.onclick = () => {
      chosen.cut[place] = SIDES[(SIDES.indexOf(chosen.cut[place]) + 1) % SIDES.length];
      tell();
      this.cut();
      writeLink();
    };
    tell();
    return button;
  }

  /** Fetches the picture again where another revision is stored; at once for another picture, else not too often. */
  async refresh() {
    const name = chosen.picture, revision = revisionOf(name), wanted = `${chosen.id} ${name} ${changeOf(name)}`;
    if (revision == null || wanted === this.wanted) return this.paint();
    if (this.picture === `${chosen.id} ${name}` && performance.now() - this.fetched < PAUSE_MS) return soon("solid", () => this.closed || this.refresh(), PAUSE_MS);
    Object.assign(this, { wanted, picture: `${chosen.id} ${name}`, fetched: performance.now() });
    const shape = view.shape, step = Math.ceil(Math.max(...shape) / LONGEST);
    const values = await tiled.thinned(chosen.id, name, step).catch((error) => {
      if (this.wanted === wanted) this.wanted = null;
      throw error;
    });
    if (this.wanted !== wanted || this.closed) return undefined;
    this.values = values;
    this.shape = shape.map((size) => Math.ceil(size / step));
    this.window = null;
    this.said.textContent = step > 1 ? `every ${step}${{ 2: "nd", 3: "rd" }[step] ?? "th"} voxel` : "every voxel";
    this.canvas.setAttribute("aria-label", `The whole volume in 3-D, revision ${revision}; arrows turn it, + and - move it`);
    return this.paint();
  }

  async paint() {
    await this.ready;
    if (!this.drawing || !this.values || this.closed) return;
    const { low, high, colours } = chosen, window = `${low} ${high}`;
    if (window !== this.window) {
      const scale = 255 / (high - low || 1), bytes = new Uint8Array(this.values.length);
      for (let place = 0; place < bytes.length; place++) bytes[place] = Math.min(255, Math.max(0, (this.values[place] - low) * scale));
      this.drawing.show(bytes, this.shape);
      this.window = window;
      this.cut();
    }
    this.drawing.paint(table(colours), chosen.mode);
    this.figure.dataset.revision = revisionOf(chosen.picture) ?? "";
  }

  /** The cross-hair has moved, or a side was chosen. */
  cut() {
    if (!this.drawing || !this.values) return;
    this.drawing.cut(chosen.cut.map((side, axis) => {
      const at = (view.position[axis] + 0.5) / view.shape[axis];
      return { "": [0, 1], below: [0, at], above: [at, 1] }[side];
    }));
  }

  key(event) {
    const moves = { ArrowLeft: [-10, 0, 1], ArrowRight: [10, 0, 1], ArrowUp: [0, 10, 1], ArrowDown: [0, -10, 1], "+": [0, 0, 1 / 1.15], "-": [0, 0, 1.15] };
    const move = moves[event.key];
    if (!move || !this.drawing) return;
    event.preventDefault();
    const [around, above, away] = this.drawing.turn;
    this.drawing.turn = [around + move[0], above + move[1], away * move[2]];
    chosen.turn = this.drawing.turn;
    soon("link", writeLink, 200);
  }

  close() {
    this.closed = true;
    this.resized.disconnect();
    this.drawing?.close();
    this.figure.remove();
  }
}
