// A row of colours, each with the browser's own picker. The value is {colors: ["#RRGGBB", ...], most: 16}.
// Gradio runs this file as a function body; `element`, `props`, `watch` and `trigger` are its arguments.
function publish(colors) {
  props.value = { ...props.value, colors };
  render();
  trigger("edit"); // not "change", which comes for values from Python too;
}

function render() {
  const { colors = [], most = 16 } = props.value || {};
  const host = element.querySelector(".q8p");
  const swatches = colors.map((color, index) => node("span", { class: "q8p-swatch" },
    node("input", { type: "color", value: color.toLowerCase(), "aria-label": `Colour ${index + 1}, ${color}`,
      onchange: (event) => publish(colors.with(index, event.target.value.toUpperCase())) }),
    node("button", { type: "button", "aria-label": `Remove colour ${index + 1}`, onclick: () => publish(colors.toSpliced(index, 1)) }, "×")));
  const add = colors.length < most
    ? [node("button", { type: "button", class: "q8p-add", onclick: () => publish([...colors, "#808080"]) }, "+ colour")] : [];
  host.replaceChildren(node("div", { class: "q8p-row", role: "group", "aria-label": `Up to ${most} colours` }, ...swatches, ...add));
}

watch("value", render);
render();
