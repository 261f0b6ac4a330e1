// Colour maps as tables of 256 RGBA values, from a few colours each (linear in between).

const STOPS = {
  grey: ["#000000", "#ffffff"],
  inverted: ["#ffffff", "#000000"],
  viridis: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  magma: ["#000004", "#180f3d", "#440f76", "#721f81", "#9e2f7f", "#cd4071", "#f1605d", "#fd9668", "#feca8d", "#fcfdbf"],
  cividis: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"],
};

export const NAMES = Object.keys(STOPS);

const made = new Map();

/** Uint32Array of 256 pixels, as they lie in an ImageData. */
export function table(name) {
  if (!made.has(name)) made.set(name, make(STOPS[name] ?? STOPS.grey));
  return made.get(name);
}

function make(stops) {
  const colours = stops.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const bytes = new Uint8ClampedArray(1024);
  for (let level = 0; level < 256; level++) {
    const place = (level / 255) * (colours.length - 1);
    const below = Math.min(Math.floor(place), colours.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [colours[below][channel], colours[below + 1][channel]];
      bytes[4 * level + channel] = from + (place - below) * (to - from);
    }
    bytes[4 * level + 3] = 255;
  }
  return new Uint32Array(bytes.buffer);
}

/** Draws float values, low to high, into an ImageData of as many pixels; what is no number is dark red. */
export function paint(values, image, low, high, name) {
  const colours = table(name), pixels = new Uint32Array(image.data.buffer);
  const scale = 255 / (high - low || 1);
  for (let place = 0; place < values.length; place++) {
    const level = (values[place] - low) * scale;
    pixels[place] = level >= 255 ? colours[255] : level > 0 ? colours[level | 0] : level <= 0 ? colours[0] : 0xff202060;
  }
}

/** [low, high] that shows most of the values: percentiles 1 and 99.7 of a sample of them. */
export function window_of(arrays) {
  const sample = [];
  for (const values of arrays) {
    const step = Math.max(1, Math.floor(values.length / 4000));
    for (let place = 0; place < values.length; place += step) if (Number.isFinite(values[place])) sample.push(values[place]);
  }
  if (!sample.length) return [0, 1];
  sample.sort((a, b) => a - b);
  const [low, high] = [sample[Math.floor(0.01 * (sample.length - 1))], sample[Math.floor(0.997 * (sample.length - 1))]];
  return high > low ? [low, high] : [low, low + (Math.abs(low) || 1)];
}
