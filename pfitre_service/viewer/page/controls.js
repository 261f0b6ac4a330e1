// Tools, theme and keys: what a person chooses.

import { NAMES } from "./colours.js";
import { arrange, drawn, setAuto, setWindow, showSlices, whole } from "./slices.js";
import { chosen, PICTURES, view, writeLink } from "./state.js";

const $ = (id) => document.getElementById(id);

function fill(select, options, value) {
  select.replaceChildren(...Object.entries(options).map(([name, words]) => new Option(words, name, false, name === value)));
}

/** Changes how slices are shown, and shows them so. */
function choose(changes) {
  Object.assign(chosen, changes);
  for (const name of ["picture", "other", "compare"]) $(name).value = chosen[name];
  arrange();
  showSlices();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("pfitre-theme", theme);
}

const turnTheme = () => setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light");
const turnSolid = () => choose({ solid: !chosen.solid });

/** The tools as the link has them. */
export function showChosen() {
  fill($("picture"), PICTURES, chosen.picture);
  fill($("other"), PICTURES, chosen.other);
  fill($("colours"), Object.fromEntries(NAMES.map((name) => [name, name])), chosen.colours);
  $("compare").value = chosen.compare;
  $("swipe").value = 100 * view.swipe;
  arrange();
}

/** Listens to tools and keys. */
export function listen() {
  setTheme(localStorage.getItem("pfitre-theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
  for (const name of ["picture", "other", "compare"]) $(name).onchange = () => choose({ [name]: $(name).value });
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
  $("solid").onclick = turnSolid;
  $("theme-button").onclick = turnTheme;
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
  document.onkeydown = (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const pictures = Object.fromEntries(Object.keys(PICTURES).map((picture, place) => [place + 1, () => choose({ picture })]));
    const keys = {
      ...pictures, 0: whole, a: setAuto, v: turnSolid, t: turnTheme, "?": () => $("help").showModal(),
      s: () => choose({ compare: chosen.compare === "swipe" ? "one" : "swipe" }),
    };
    keys[event.key]?.();
  };
}
