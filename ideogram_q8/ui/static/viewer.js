// Two to four pictures of one size, looked at together: slider, side by side, fade, difference; zoom and pan are shared.
// Gradio runs this file as a function body; `element`, `props` and `watch` are its arguments. No text becomes markup here.
const MODES = [["slider", "Slider"], ["side", "Side by side"], ["fade", "Fade"], ["difference", "Difference"]];
const MAX_ZOOM = 16;
const state = { mode: "slider", split: 50, fade: 50, gain: 8, zoom: 1, x: 0, y: 0, a: 0, b: 1 };

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const pictures = () => (props.value && props.value.pictures) || [];

function range(name, label, low, high, step) {
  const input = node("input", { type: "range", min: low, max: high, step, "aria-label": label, "data-range": name,
    oninput: () => { state[name] = Number(input.value); apply(); } });
  input.value = state[name];
  return node("label", { class: "q8v-range" }, name === "split" ? "" : label, input); // where to split is dragged in the picture
}

function picker(name, label, list) {
  const options = list.map((picture, index) => node("option", { value: index }, picture.title));
  const select = node("select", { "aria-label": label, onchange: () => { state[name] = Number(select.value); render(); } }, ...options);
  select.value = state[name];
  return node("label", { class: "q8v-pick" }, label, select);
}

function toolbar(list) {
  const modes = MODES.map(([mode, title]) => node("button", { type: "button", "data-mode": mode, "aria-pressed": state.mode === mode,
    onclick: () => { state.mode = mode; render(); element.querySelector(`[data-mode=${mode}]`).focus(); } }, title));
  modes.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === state.mode)));
  const tools = [node("div", { class: "q8v-modes", role: "group", "aria-label": "How to compare" }, ...modes)];
  if (list.length > 2 && state.mode !== "side") tools.push(picker("a", "A", list), picker("b", "B", list));
  if (state.mode === "slider") tools.push(range("split", "Position", 0, 100, 0.5));
  if (state.mode === "fade") tools.push(range("fade", "Fade", 0, 100, 1));
  if (state.mode === "difference") tools.push(range("gain", "Gain", 1, 64, 1));
  const zoom = (label, text, change) => node("button", { type: "button", "aria-label": label, onclick: change }, text);
  tools.push(node("div", { class: "q8v-zoom", role: "group", "aria-label": "Zoom" },
    zoom("Zoom out", "−", () => zoomAt(0.5, 0.5, 1 / 1.5)),
    node("output", { class: "q8v-factor" }), zoom("Zoom in", "+", () => zoomAt(0.5, 0.5, 1.5)),
    zoom("Whole picture", "Fit", () => { Object.assign(state, { zoom: 1, x: 0, y: 0 }); apply(); })));
  return node("div", { class: "q8v-tools", role: "toolbar", "aria-label": "Viewer" }, ...tools);
}

function layer(picture, name) {
  return node("div", { class: "q8v-layer", "data-layer": name },
    node("img", { src: picture.src, alt: picture.title, draggable: "false", onload: apply }));
}

function frame(label, ...layers) {
  const made = node("div", { class: "q8v-frame", tabindex: 0, role: "group",
    "aria-label": `${label}. Plus and minus zoom, the arrow keys move, 0 shows the whole picture`,
    onwheel: wheel, onpointerdown: drag, onkeydown: keys, ondblclick: (event) => { const [x, y] = place(event); zoomAt(x, y, 2); } },
    ...layers);
  const aspect = props.value.aspect || 1;
  Object.assign(made.style, { aspectRatio: aspect, maxWidth: `calc(64vh * ${aspect})` });
  return made;
}

function stage(list) {
  if (state.mode === "side") {
    const cells = list.map((picture) => node("figure", {}, node("figcaption", {}, picture.title), frame(picture.title, layer(picture, "one"))));
    return node("div", { class: "q8v-side", style: `--columns:${Math.min(list.length, list.length === 4 ? 2 : 3)}` }, ...cells);
  }
  const [a, b] = [list[state.a], list[state.b]];
  const names = node("div", { class: "q8v-names" }, node("span", {}, `A · ${a.title}`), node("span", {}, `B · ${b.title}`));
  if (state.mode === "difference") {
    const canvas = node("canvas", { role: "img", "aria-label": `Difference of ${a.title} and ${b.title}` });
    draw(canvas, a.src, b.src);
    return node("div", {}, names, frame("Difference", node("div", { class: "q8v-layer", "data-layer": "difference" }, canvas)));
  }
  const line = state.mode === "slider" ? [node("div", { class: "q8v-line", "aria-hidden": "true" })] : [];
  return node("div", {}, names, frame(`${a.title} and ${b.title}`, layer(a, "a"), layer(b, "b"), ...line));
}

function load(src) {
  return new Promise((done, fail) => { const image = new Image(); image.onload = () => done(image); image.onerror = fail; image.src = src; });
}

function pixels(image) {
  const canvas = node("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// The largest difference of the three colours, from black over red and yellow to white.
async function draw(canvas, first, second) {
  const [a, b] = (await Promise.all([load(first), load(second)])).map(pixels);
  Object.assign(canvas, { width: a.width, height: a.height });
  canvas.difference = new Uint8ClampedArray(a.width * a.height);
  for (let i = 0; i < canvas.difference.length; i++) {
    const at = 4 * i;
    canvas.difference[i] = Math.max(Math.abs(a.data[at] - b.data[at]), Math.abs(a.data[at + 1] - b.data[at + 1]), Math.abs(a.data[at + 2] - b.data[at + 2]));
  }
  heat(canvas);
  apply();
}

function heat(canvas) {
  if (!canvas.difference) return;
  const image = new ImageData(canvas.width, canvas.height);
  canvas.difference.forEach((value, i) => {
    const level = Math.min(765, 3 * value * state.gain);
    image.data.set([Math.min(255, level), clamp(level - 255, 0, 255), clamp(level - 510, 0, 255), 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function place(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

// Zooms so that the point at (x, y) of the frame, in fractions, stays where it is.
function zoomAt(x, y, factor) {
  const zoom = clamp(state.zoom * factor, 1, MAX_ZOOM), ratio = zoom / state.zoom;
  Object.assign(state, { zoom, x: x - (x - state.x) * ratio, y: y - (y - state.y) * ratio });
  apply();
}

function wheel(event) {
  event.preventDefault();
  zoomAt(...place(event), event.deltaY < 0 ? 1.25 : 0.8);
}

function drag(event) {
  const box = event.currentTarget, size = box.getBoundingClientRect(), pans = state.zoom > 1 || state.mode !== "slider";
  box.setPointerCapture(event.pointerId);
  let [x, y] = [event.clientX, event.clientY];
  const move = (now) => {
    if (pans) Object.assign(state, { x: state.x + (now.clientX - x) / size.width, y: state.y + (now.clientY - y) / size.height });
    else split(100 * (now.clientX - size.left) / size.width);
    [x, y] = [now.clientX, now.clientY];
    apply();
  };
  const stop = () => { box.removeEventListener("pointermove", move); box.removeEventListener("pointerup", stop); };
  if (!pans) move(event);
  box.addEventListener("pointermove", move);
  box.addEventListener("pointerup", stop);
}

function split(value) {
  state.split = clamp(value, 0, 100);
  const input = element.querySelector("[data-range=split]");
  if (input) input.value = state.split;
}

function keys(event) {
  const moves = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
  if (event.key === "+" || event.key === "=") zoomAt(0.5, 0.5, 1.5);
  else if (event.key === "-") zoomAt(0.5, 0.5, 1 / 1.5);
  else if (event.key === "0") { Object.assign(state, { zoom: 1, x: 0, y: 0 }); apply(); }
  else if (moves[event.key]) { state.x += moves[event.key][0]; state.y += moves[event.key][1]; apply(); }
  else return;
  event.preventDefault();
}

function apply() {
  [state.x, state.y] = [clamp(state.x, 1 - state.zoom, 0), clamp(state.y, 1 - state.zoom, 0)];
  for (const shown of element.querySelectorAll(".q8v-layer > *")) {
    shown.style.transform = `translate(${100 * state.x}%, ${100 * state.y}%) scale(${state.zoom})`;
    const enlarged = state.zoom * shown.clientWidth / (shown.naturalWidth || shown.width);
    shown.style.imageRendering = enlarged >= 2 ? "pixelated" : "auto"; // nothing is smoothed over
  }
  const upper = element.querySelector("[data-layer=b]");
  if (upper) upper.style.clipPath = state.mode === "slider" ? `inset(0 0 0 ${state.split}%)` : "none";
  if (upper) upper.style.opacity = state.mode === "fade" ? state.fade / 100 : 1;
  const line = element.querySelector(".q8v-line");
  if (line) line.style.left = `${state.split}%`;
  const canvas = element.querySelector("[data-layer=difference] canvas");
  if (canvas && canvas.gain !== state.gain) { canvas.gain = state.gain; heat(canvas); }
  const factor = element.querySelector(".q8v-factor");
  if (factor) factor.textContent = `${Math.round(100 * state.zoom)} %`;
}

function render() {
  const host = element.querySelector(".q8v"), list = pictures();
  host.replaceChildren();
  if (list.length < 2) {
    host.append(node("p", { class: "q8v-empty" }, (props.value && props.value.note) || ""));
    return;
  }
  if (state.a >= list.length || state.b >= list.length || state.a === state.b) Object.assign(state, { a: 0, b: 1 });
  host.append(toolbar(list), stage(list));
  apply();
}

watch("value", render);
render();
