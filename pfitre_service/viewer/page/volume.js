// A volume as light through a box, drawn by three.js (WebGL 2): rays are followed through the values, in the browser.

import {
  BackSide, BoxGeometry, Data3DTexture, DataTexture, EdgesGeometry, GLSL3, LinearFilter, LineBasicMaterial, LineSegments, Mesh, OrbitControls,
  PerspectiveCamera, RawShaderMaterial, RedFormat, RGBAFormat, Scene, UnsignedByteType, Vector3, WebGLRenderer,
} from "./vendored/three.js";

const STEPS = 256; // along the box's longest side
const MOVING = 0.5; // of the pixels each way, while a hand turns the box
const START = [35, 25, 2.2];

const VERTEX = `
in vec3 position;
uniform mat4 modelViewMatrix, projectionMatrix;
out vec3 at;
void main() {
  at = position;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
}`;

// The box's own axes: x to the right, detector rows (z) downwards, y towards the viewer. Values are 0 to 1 in the window.
const FRAGMENT = `
precision highp float;
precision highp sampler3D;
in vec3 at;
out vec4 colour;
uniform sampler3D values;
uniform sampler2D colours;
uniform vec3 eye, size, low, high, texel;
uniform float pace;
uniform bool solid;

vec3 place(vec3 point) {
  vec3 share = point / size + 0.5;
  return vec3(share.x, share.z, 1.0 - share.y);
}

float value(vec3 point) { return texture(values, place(point)).r; }

vec3 lit(vec3 point, vec3 ray, float here) {
  vec3 slope = vec3(
    value(point + vec3(texel.x, 0, 0)) - value(point - vec3(texel.x, 0, 0)),
    value(point + vec3(0, texel.y, 0)) - value(point - vec3(0, texel.y, 0)),
    value(point + vec3(0, 0, texel.z)) - value(point - vec3(0, 0, texel.z)));
  float steep = length(slope);
  float light = steep > 0.02 ? 0.35 + 0.65 * abs(dot(slope / steep, ray)) : 0.8;
  return texture(colours, vec2(here, 0.5)).rgb * light;
}

void main() {
  vec3 ray = normalize(at - eye);
  vec3 one = (low - eye) / ray, other = (high - eye) / ray;
  vec3 near = min(one, other), far = max(one, other);
  float from = max(max(near.x, near.y), max(near.z, 0.0)), to = min(far.x, min(far.y, far.z));
  if (from >= to) discard;
  float most = 0.0;
  vec4 sum = vec4(0.0);
  float first = from + pace * fract(52.98 * fract(dot(gl_FragCoord.xy, vec2(0.0671, 0.00584))));
  for (float way = first; way < to; way += pace) {
    vec3 point = eye + way * ray;
    float here = value(point);
    most = max(most, here);
    if (!solid || here < 0.15) continue;
    float cover = 1.0 - exp(-60.0 * pace * smoothstep(0.15, 0.9, here));
    sum += (1.0 - sum.a) * cover * vec4(lit(point, ray, here), 1.0);
    if (sum.a > 0.98) break;
  }
  colour = solid ? sum : vec4(texture(colours, vec2(most, 0.5)).rgb * most, most);
}`;

/** Draws on `canvas`; `turned([around, above, away])` is told in degrees, and in longest sides, when a hand has moved it. Throws where there is no WebGL 2. */
export class VolumeView {
  constructor(canvas, turned) {
    this.canvas = canvas;
    this.renderer = new WebGLRenderer({ canvas, alpha: true, antialias: false, preserveDrawingBuffer: true });
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(40, 1, 0.01, 20);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enablePan = false;
    Object.assign(this.controls, { minDistance: 0.6, maxDistance: 6 });
    this.turn = START;
    this.controls.addEventListener("start", () => this.resize(MOVING));
    this.controls.addEventListener("change", () => this.draw());
    this.controls.addEventListener("end", () => {
      this.resize(1);
      turned(this.turn);
    });
    this.material = new RawShaderMaterial({
      glslVersion: GLSL3, vertexShader: VERTEX, fragmentShader: FRAGMENT, side: BackSide, transparent: true, premultipliedAlpha: true,
      uniforms: Object.fromEntries([
        ["values", null], ["colours", null], ["pace", 1 / STEPS], ["solid", true],
        ...["eye", "size", "low", "high", "texel"].map((name) => [name, new Vector3()]),
      ].map(([name, value]) => [name, { value }])),
    });
    this.box = null;
  }

  /** Angles around and above in degrees, distance in longest sides. */
  get turn() {
    const away = this.camera.position.length(), { x, y, z } = this.camera.position;
    return [(Math.atan2(x, z) * 180) / Math.PI, (Math.asin(y / away) * 180) / Math.PI, away];
  }

  set turn([around, above, away]) {
    const [a, b] = [(around * Math.PI) / 180, (Math.min(89, Math.max(-89, above)) * Math.PI) / 180];
    this.camera.position.set(away * Math.sin(a) * Math.cos(b), away * Math.sin(b), away * Math.cos(a) * Math.cos(b));
    this.controls.update();
  }

  /** bytes: values in the window, 0 to 255; shape: [z, y, x] of them. */
  show(bytes, [nz, ny, nx]) {
    const uniforms = this.material.uniforms, old = uniforms.values.value;
    const texture = new Data3DTexture(bytes, nx, ny, nz);
    Object.assign(texture, { format: RedFormat, type: UnsignedByteType, minFilter: LinearFilter, magFilter: LinearFilter, unpackAlignment: 1, needsUpdate: true });
    uniforms.values.value = texture;
    old?.dispose();
    const longest = Math.max(nx, ny, nz), size = [nx / longest, nz / longest, ny / longest];
    if (!this.box || size.some((side, axis) => side !== uniforms.size.value.getComponent(axis))) this.build(size);
    uniforms.texel.value.set(1 / longest, 1 / longest, 1 / longest);
    this.draw();
  }

  build(size) {
    this.clear();
    this.material.uniforms.size.value.set(...size);
    const geometry = new BoxGeometry(...size);
    this.box = new Mesh(geometry, this.material);
    this.frame = new LineSegments(new EdgesGeometry(geometry), new LineBasicMaterial({ color: 0x6f8496 }));
    this.scene.add(this.frame, this.box);
  }

  /** table: 256 RGBA pixels. */
  paint(table, mode) {
    const uniforms = this.material.uniforms;
    uniforms.colours.value?.dispose();
    const texture = new DataTexture(new Uint8Array(table.buffer.slice(0)), 256, 1, RGBAFormat, UnsignedByteType);
    Object.assign(texture, { minFilter: LinearFilter, magFilter: LinearFilter, needsUpdate: true });
    uniforms.colours.value = texture;
    uniforms.solid.value = mode === "solid";
    this.draw();
  }

  /** What is kept of each axis [z, y, x], as shares [from, to] of its length. */
  cut([z, y, x]) {
    const { low, high, size } = this.material.uniforms, [sx, sy, sz] = size.value.toArray();
    low.value.set(sx * (x[0] - 0.5), sy * (0.5 - z[1]), sz * (y[0] - 0.5));
    high.value.set(sx * (x[1] - 0.5), sy * (0.5 - z[0]), sz * (y[1] - 0.5));
    this.draw();
  }

  resize(share = 1) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(share * Math.min(devicePixelRatio, 1.5));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  /** Draws at the next turn, once for many requests. */
  draw() {
    if (this.waiting || !this.box) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.material.uniforms.eye.value.copy(this.camera.position);
      this.renderer.render(this.scene, this.camera);
      this.canvas.dataset.drawn = Number(this.canvas.dataset.drawn ?? 0) + 1;
    });
  }

  clear() {
    if (!this.box) return;
    this.scene.remove(this.frame, this.box);
    for (const part of [this.box.geometry, this.frame.geometry, this.frame.material]) part.dispose();
    this.box = null;
  }

  close() {
    cancelAnimationFrame(this.waiting);
    this.clear();
    for (const name of ["values", "colours"]) this.material.uniforms[name].value?.dispose();
    this.material.dispose();
    this.controls.dispose();
    this.renderer.dispose();
  }
}
