// One slice on the screen: its picture (or two, swiped), cross-hair, zoom, and what a hand does to it.

import { paint } from "./colours.js";

// For each axis that is cut (z, y, x): which axes lie across and down, and what people call the slice.
export const CUTS = [
  { axis: 0, across: 2, down: 1, name: "z", title: "Slice across the rotation axis" },
  { axis: 1, across: 2, down: 0, name: "y", title: "Slice along x and the rotation axis" },
  { axis: 2, across: 1, down: 0, name: "x", title: "Slice along y and the rotation axis" },
];

const MOST_ZOOM = 40;

export class Panel {
  /** `view` is what all panels share: shape, position, zoom; `act` takes what a hand does. */
  constructor(cut, picture, view, act) {
    this.cut = cut;
    this.picture = picture;
    this.view = view;
    this.act = act;
    this.layers = [];
    this.figure = document.createElement("figure");
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.slider = Object.assign(document.createElement("input"), { type: "range", min: 0, step: 1 });
    this.slider.setAttribute("aria-label", `${cut.title}: position along ${cut.name}`);
    this.number = document.createElement("output");
    const caption = document.createElement("figcaption");
    const name = document.createElement("span");
    name.textContent = picture ? `${cut.name}, ${picture}` : cut.name;
    caption.append(name, this.slider, this.number);
    this.figure.append(this.canvas, caption);
    this.slider.oninput = () => act.move({ [cut.axis]: Number(this.slider.value) });
    this.pointers = new Map();
    this.canvas.onpointerdown = (event) => this.down(event);
    this.canvas.onpointermove = (event) => this.moved(event);
    this.canvas.onpointerup = this.canvas.onpointercancel = (event) => this.pointers.delete(event.pointerId);
    this.canvas.ondblclick = () => act.whole();
    this.canvas.onkeydown = (event) => this.key(event);
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.canvas);
  }

  close() {
    this.resized.disconnect();
    this.figure.remove();
  }

  /** [columns, rows] of the slice. */
  get size() {
    return [this.view.shape[this.cut.across], this.view.shape[this.cut.down]];
  }

  /** Shows float values of one picture, or two of which the first lies left of the swipe. */
  show(slices, { low, high, colours }) {
    const [columns, rows] = this.size;
    this.layers = slices.filter((values) => values?.length === columns * rows).map((values, place) => {
      const layer = this.layers[place]?.width === columns && this.layers[place]?.height === rows ? this.layers[place] : new OffscreenCanvas(columns, rows);
      const context = layer.getContext("2d"), image = context.createImageData(columns, rows);
      paint(values, image, low, high, colours);
      context.putImageData(image, 0, 0);
      return layer;
    });
    this.draw();
  }

  draw() {
    const { canvas, view } = this, [columns, rows] = this.size, ratio = devicePixelRatio;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const { scale, left, top } = this.place();
    context.imageSmoothingEnabled = scale < 2;
    const [first, second] = this.layers;
    if (first) context.drawImage(first, left, top, columns * scale, rows * scale);
    if (second) {
      const edge = width * view.swipe;
      context.save();
      context.beginPath();
      context.rect(edge, 0, width - edge, height);
      context.clip();
      context.drawImage(second, left, top, columns * scale, rows * scale);
      context.restore();
      context.fillStyle = "#f5b942";
      context.fillRect(edge - ratio, 0, 2 * ratio, height);
    }
    const x = left + (view.position[this.cut.across] + 0.5) * scale, y = top + (view.position[this.cut.down] + 0.5) * scale;
    context.strokeStyle = "rgba(127, 209, 255, 0.75)";
    context.lineWidth = ratio;
    context.beginPath();
    context.moveTo(x, 0); context.lineTo(x, height); context.moveTo(0, y); context.lineTo(width, y);
    context.stroke();
    const at = view.position[this.cut.axis];
    this.slider.max = view.shape[this.cut.axis] - 1;
    this.slider.value = at;
    this.number.textContent = `${at} / ${view.shape[this.cut.axis] - 1}`;
    canvas.setAttribute("aria-label", `${this.cut.title}, ${this.cut.name} = ${at}`);
  }

  /** Where the slice lies on the canvas, in its pixels. Zoom is shared, its middle belongs to each axis. */
  place() {
    const { canvas, view } = this, [columns, rows] = this.size;
    const scale = Math.min(canvas.width / columns, canvas.height / rows) * view.zoom;
    const middle = (axis) => view.middle[axis] * view.shape[axis];
    return { scale, left: canvas.width / 2 - middle(this.cut.across) * scale, top: canvas.height / 2 - middle(this.cut.down) * scale };
  }

  /** [column, row] under the pointer, with fractions. */
  under(event) {
    const box = this.canvas.getBoundingClientRect(), { scale, left, top } = this.place();
    const [x, y] = [(event.clientX - box.left) * devicePixelRatio, (event.clientY - box.top) * devicePixelRatio];
    return [(x - left) / scale, (y - top) / scale];
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 1 && !event.shiftKey && !event.altKey) this.cross(event);
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) this.pinch(event);
    else if (event.shiftKey) this.act.window((event.clientX - before.clientX) / 300, (before.clientY - event.clientY) / 300);
    else if (event.altKey) this.drag(before, event);
    else this.cross(event);
    this.pointers.set(event.pointerId, event);
  }

  cross(event) {
    const [column, row] = this.under(event);
    this.act.move({ [this.cut.across]: Math.floor(column), [this.cut.down]: Math.floor(row) });
  }

  drag(before, event) {
    const [from, to] = [this.under(before), this.under(event)];
    this.shift(from[0] - to[0], from[1] - to[1]);
    this.act.drawn();
  }

  shift(columns, rows) {
    const { middle, shape } = this.view;
    middle[this.cut.across] = Math.min(1, Math.max(0, middle[this.cut.across] + columns / shape[this.cut.across]));
    middle[this.cut.down] = Math.min(1, Math.max(0, middle[this.cut.down] + rows / shape[this.cut.down]));
  }

  pinch(event) {
    const [other] = [...this.pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
    const before = this.pointers.get(event.pointerId);
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    this.zoom(apart(event) / Math.max(1, apart(before)), event);
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 400), event);
  }

  /** Zooms so that what is under the pointer stays there. */
  zoom(factor, event) {
    const before = this.under(event);
    this.view.zoom = Math.min(MOST_ZOOM, Math.max(1, this.view.zoom * factor));
    if (this.view.zoom === 1) this.view.middle = [0.5, 0.5, 0.5];
    else {
      const after = this.under(event);
      this.shift(before[0] - after[0], before[1] - after[1]);
    }
    this.act.drawn();
  }

  key(event) {
    const { across, down, axis } = this.cut, { position } = this.view;
    const steps = {
      ArrowLeft: [across, -1], ArrowRight: [across, 1], ArrowUp: [down, -1], ArrowDown: [down, 1],
      PageUp: [axis, -1], PageDown: [axis, 1],
    };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    this.act.move({ [step[0]]: position[step[0]] + step[1] * (event.shiftKey ? 10 : 1) });
  }
}
