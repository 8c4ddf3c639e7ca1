// Boxes of a caption's elements on a canvas of the picture's shape: drawn, moved, resized with pointer or keys.
// The value is {aspect, selected, elements: [{label, kind, bbox: [ymin, xmin, ymax, xmax] in thousandths, or null}]}.
// Gradio runs this file as a function body; `element`, `props`, `watch` and `trigger` are its arguments. Labels never become markup.
const SMALLEST = 10;
const CORNERS = ["nw", "ne", "sw", "se"];
let current = null; // the value being shown and edited

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function publish() {
  props.value = JSON.parse(JSON.stringify(current));
  trigger("edit"); // not "change", which comes for values from Python too;
}

// Thousandths of the canvas under a pointer: [y, x].
function place(event) {
  const box = element.querySelector(".q8b-canvas").getBoundingClientRect();
  return [1000 * (event.clientY - box.top) / box.height, 1000 * (event.clientX - box.left) / box.width].map((v) => Math.round(clamp(v, 0, 1000)));
}

function ordered([y1, x1, y2, x2]) {
  return [Math.min(y1, y2), Math.min(x1, x2), Math.max(y1, y2), Math.max(x1, x2)];
}

function moved([top, left, bottom, right], dy, dx) {
  const y = clamp(dy, -top, 1000 - bottom), x = clamp(dx, -left, 1000 - right);
  return [top + y, left + x, bottom + y, right + x];
}

// Follows the pointer until it is let go; `change(place, start)` gives the new box.
function follow(event, index, change) {
  event.preventDefault();
  event.stopPropagation();
  const start = place(event), canvas = element.querySelector(".q8b-canvas");
  canvas.setPointerCapture(event.pointerId);
  const move = (now) => { current.elements[index].bbox = change(place(now), start); arrange(); };
  const stop = () => {
    canvas.removeEventListener("pointermove", move);
    canvas.removeEventListener("pointerup", stop);
    const [top, left, bottom, right] = current.elements[index].bbox || [0, 0, 0, 0];
    if (bottom - top < SMALLEST || right - left < SMALLEST) current.elements[index].bbox = before;
    publish();
  };
  const before = current.elements[index].bbox;
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", stop);
}

// On the bare canvas: the selected element gets a new box.
function drawNew(event) {
  if (event.target !== event.currentTarget || current.selected < 0 || current.selected >= current.elements.length) return;
  follow(event, current.selected, (now, start) => ordered([...start, ...now]));
}

function grab(event, index) {
  event.currentTarget.focus(); // which selects it; the default that would focus is prevented below
  const box = current.elements[index].bbox;
  follow(event, index, (now, start) => moved(box, now[0] - start[0], now[1] - start[1]));
}

function resize(event, index, corner) {
  const box = current.elements[index].bbox;
  follow(event, index, (now) => ordered([corner[0] === "n" ? now[0] : box[0], corner[1] === "w" ? now[1] : box[1],
    corner[0] === "s" ? now[0] : box[2], corner[1] === "e" ? now[1] : box[3]]));
}

function keys(event, index) {
  const step = event.ctrlKey ? 1 : 10;
  const delta = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] }[event.key];
  const box = current.elements[index].bbox;
  if (event.key === "Delete" || event.key === "Backspace") current.elements[index].bbox = null;
  else if (delta && event.shiftKey) current.elements[index].bbox = [box[0], box[1], clamp(box[2] + delta[0], box[0] + SMALLEST, 1000), clamp(box[3] + delta[1], box[1] + SMALLEST, 1000)];
  else if (delta) current.elements[index].bbox = moved(box, ...delta);
  else return;
  event.preventDefault();
  current.selected = index;
  publish();
}

function select(index) {
  current.selected = index;
  for (const box of element.querySelectorAll(".q8b-box")) box.setAttribute("aria-pressed", String(Number(box.dataset.index) === index));
}

function box(item, index) {
  const made = node("div", { class: "q8b-box", "data-index": index, "data-kind": item.kind, tabindex: 0, role: "button",
    "aria-pressed": String(index === current.selected),
    "aria-label": `${item.label}. The arrow keys move the box, with Shift they resize it, Delete removes it`,
    onpointerdown: (event) => grab(event, index), onkeydown: (event) => keys(event, index), onfocus: () => select(index) },
    node("span", {}, item.label));
  for (const corner of CORNERS) made.append(node("i", { class: `q8b-${corner}`, onpointerdown: (event) => resize(event, index, corner) }));
  return made;
}

function arrange() {
  for (const shown of element.querySelectorAll(".q8b-box")) {
    const bbox = current.elements[Number(shown.dataset.index)].bbox;
    shown.hidden = !bbox;
    if (!bbox) continue;
    const [top, left, bottom, right] = bbox;
    Object.assign(shown.style, { top: `${top / 10}%`, left: `${left / 10}%`, height: `${(bottom - top) / 10}%`, width: `${(right - left) / 10}%` });
  }
}

function render() {
  const focused = element.querySelector(".q8b-box:focus");
  const index = focused ? focused.dataset.index : null;
  current = JSON.parse(JSON.stringify(props.value || { aspect: 1, selected: -1, elements: [] }));
  const canvas = node("div", { class: "q8b-canvas", role: "group", "aria-label": "Layout of the picture", onpointerdown: drawNew },
    ...current.elements.map(box));
  Object.assign(canvas.style, { aspectRatio: current.aspect, maxWidth: `calc(62vh * ${current.aspect})` });
  element.querySelector(".q8b").replaceChildren(canvas);
  arrange();
  if (index !== null) element.querySelector(`.q8b-box[data-index="${index}"]`)?.focus();
}

watch("value", render);
render();
