// What the 3-D view takes of three.js; `make vendored` bundles it into page/vendored/three.js.
export {
  BackSide, BoxGeometry, Data3DTexture, DataTexture, EdgesGeometry, GLSL3, LinearFilter, LineBasicMaterial, LineSegments, Mesh, PerspectiveCamera,
  RawShaderMaterial, RedFormat, REVISION, RGBAFormat, Scene, UnsignedByteType, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
