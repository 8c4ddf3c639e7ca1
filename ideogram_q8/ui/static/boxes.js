// Boxes of a caption's elements on a canvas of the picture's shape: drawn, moved, resized with pointer or keys; below it, all elements.
// The value is {aspect, selected, elements: [{label, kind, bbox: [ymin, xmin, ymax, xmax] in thousandths, or null}]}; with `frozen` true
// what is drawn stays and cannot be edited, with `drawn` it is that of an edit which drew a new element's box.
// Gradio runs this file as a function body; `element`, `props`, `watch` and `trigger` are its arguments. Labels never become markup.
const SMALLEST = 10;
const CORNERS = ["nw", "ne", "sw", "se"];
let current = { aspect: 1, selected: -1, elements: [] }; // what is shown and edited
let dragging = false;
let turn = 0; // edits so far; an answer to what was asked before the last one would draw what is gone

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const copy = (value) => JSON.parse(JSON.stringify(value));
const canvasOf = () => element.querySelector(".q8b-canvas");

// `event` is "edit" or "select", not "change", which comes for values from Python too.
function publish(event, more = {}) {
  if (event === "edit") turn += 1;
  props.value = { ...copy(current), ...more, turn };
  trigger(event);
}

// Thousandths of the canvas under a pointer: [y, x].
function place(event) {
  const box = canvasOf().getBoundingClientRect();
  return [1000 * (event.clientY - box.top) / box.height, 1000 * (event.clientX - box.left) / box.width].map((v) => Math.round(clamp(v, 0, 1000)));
}

function ordered([y1, x1, y2, x2]) {
  return [Math.min(y1, y2), Math.min(x1, x2), Math.max(y1, y2), Math.max(x1, x2)];
}

function moved([top, left, bottom, right], dy, dx) {
  const y = clamp(dy, -top, 1000 - bottom), x = clamp(dx, -left, 1000 - right);
  return [top + y, left + x, bottom + y, right + x];
}

const large = (box) => box && box[2] - box[0] >= SMALLEST && box[3] - box[1] >= SMALLEST;

// Follows the pointer until it is let go. `change(place, start)` gives the box, `show(box)` draws it, `done(box)` takes it; where the
// browser takes the pointer away (a finger that scrolls), or the box is too small, done(null).
function follow(event, change, show, done) {
  event.preventDefault();
  event.stopPropagation();
  const start = place(event), canvas = canvasOf();
  let box = null;
  dragging = true;
  canvas.setPointerCapture(event.pointerId);
  const move = (now) => { box = change(place(now), start); show(box); };
  const stop = (last) => {
    dragging = false;
    for (const [name, heard] of [["pointermove", move], ["pointerup", stop], ["pointercancel", stop]]) canvas.removeEventListener(name, heard);
    done(last.type === "pointerup" && large(box) ? box : null);
  };
  for (const [name, heard] of [["pointermove", move], ["pointerup", stop], ["pointercancel", stop]]) canvas.addEventListener(name, heard);
}

// On the bare canvas: the selected element gets a box where it has none, else a new element. A finger scrolls the page there.
function drawNew(event) {
  if (event.target !== event.currentTarget || event.pointerType === "touch") return;
  const ghost = node("div", { class: "q8b-ghost" }), bare = current.elements[current.selected];
  canvasOf().append(ghost);
  follow(event, (now, start) => ordered([...start, ...now]), (box) => lay(ghost, box), (box) => {
    ghost.remove();
    if (box && bare && !bare.bbox) reshape(current.selected, box);
    else if (box) publish("edit", { drawn: box });
  });
}

function reshape(index, box) {
  current.elements[index].bbox = box;
  arrange();
  publish("edit");
}

// Drags the box of an element, or one of its corners.
function pull(event, index, change) {
  const before = current.elements[index].bbox;
  if (event.pointerType === "touch" && index !== current.selected) return; // a tap selects it first; till then a finger scrolls
  select(index);
  follow(event, (now, start) => change(before, now, start), (box) => { current.elements[index].bbox = box; arrange(); }, (box) => {
    current.elements[index].bbox = before;
    if (box && String(box) !== String(before)) reshape(index, box);
    else arrange();
  });
}

function grab(event, index) {
  if (event.pointerType !== "touch") event.currentTarget.focus({ preventScroll: true }); // by default it would be, which is prevented
  pull(event, index, (box, now, start) => moved(box, now[0] - start[0], now[1] - start[1]));
}

function resize(event, index, corner) {
  pull(event, index, (box, now) => ordered([corner[0] === "n" ? now[0] : box[0], corner[1] === "w" ? now[1] : box[1],
    corner[0] === "s" ? now[0] : box[2], corner[1] === "e" ? now[1] : box[3]]));
}

function keys(event, index) {
  const step = event.ctrlKey ? 1 : 10;
  const delta = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] }[event.key];
  const box = current.elements[index].bbox;
  if (!box) return;
  if (event.key === "Delete" || event.key === "Backspace") {
    event.preventDefault();
    reshape(index, null);
    element.querySelector(`.q8b-list [data-index="${index}"]`)?.focus(); // the box that had the focus is hidden
  } else if (delta) {
    event.preventDefault();
    reshape(index, event.shiftKey
      ? [box[0], box[1], clamp(box[2] + delta[0], box[0] + SMALLEST, 1000), clamp(box[3] + delta[1], box[1] + SMALLEST, 1000)]
      : moved(box, ...delta));
  }
}

function select(index) {
  if (index === current.selected) return;
  current.selected = index;
  press();
  publish("select");
}

function press() {
  for (const shown of element.querySelectorAll("[data-index]")) shown.setAttribute("aria-pressed", String(Number(shown.dataset.index) === current.selected));
}

function box(item, index) {
  const made = node("div", { class: "q8b-box", "data-index": index, "data-kind": item.kind, tabindex: 0, role: "button",
    "aria-label": `${item.label}. The arrow keys move the box, with Shift they resize it, Delete removes it`,
    onpointerdown: (event) => grab(event, index), onkeydown: (event) => keys(event, index), onfocus: () => select(index),
    onclick: () => select(index) },
    node("span", {}, item.label));
  for (const corner of CORNERS) made.append(node("i", { class: `q8b-${corner}`, onpointerdown: (event) => resize(event, index, corner) }));
  return made;
}

// All elements, those without a box and those below others too.
function list() {
  const rows = current.elements.map((item, index) => node("button", { type: "button", "data-index": index, "data-kind": item.kind,
    onclick: () => select(index) }));
  return node("div", { class: "q8b-list", role: "group", "aria-label": "Elements" }, ...rows);
}

function lay(shown, [top, left, bottom, right]) {
  Object.assign(shown.style, { top: `${top / 10}%`, left: `${left / 10}%`, height: `${(bottom - top) / 10}%`, width: `${(right - left) / 10}%` });
}

function arrange() {
  for (const shown of element.querySelectorAll("[data-index]")) {
    const index = Number(shown.dataset.index), { label, bbox } = current.elements[index];
    if (shown.tagName === "BUTTON") shown.textContent = `${index + 1} · ${label}${bbox ? "" : " · no box"}`;
    else shown.hidden = !bbox;
    if (bbox && shown.tagName !== "BUTTON") lay(shown, bbox);
  }
}

function render() {
  const given = props.value || {};
  for (const part of document.querySelectorAll(".q8-editing")) part.inert = Boolean(given.frozen);
  if (dragging || given.turn < turn || (given.frozen && canvasOf())) return;
  const focused = element.querySelector("[data-index]:focus"), parent = focused?.parentElement.className;
  if (given.elements) current = copy({ aspect: given.aspect, selected: given.selected, elements: given.elements });
  const canvas = node("div", { class: "q8b-canvas", role: "group", "aria-label": "Layout of the picture. Drag on bare ground to draw a new box",
    onpointerdown: drawNew }, ...current.elements.map(box));
  Object.assign(canvas.style, { aspectRatio: current.aspect, maxWidth: `calc(62vh * ${current.aspect})` });
  element.querySelector(".q8b").replaceChildren(canvas, list());
  arrange();
  press();
  if (focused) element.querySelector(`.${parent} [data-index="${focused.dataset.index}"]:not([hidden])`)?.focus({ preventScroll: true });
}

watch("value", render);
render();
