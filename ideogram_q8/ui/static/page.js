// Run by Gradio when the page is there: mends roles and names that its own components lack, as they appear, and says what went wrong in events
// that take no turn in the queue, of which Gradio itself shows nothing.
() => {
  const enlarged = new ResizeObserver((sizes) => sizes.forEach(({ target }) => sharpen(target)));
  const sharpen = (image) => image.classList.toggle("q8-enlarged", image.naturalWidth > 0
    && Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight) * devicePixelRatio >= 1.5);
  document.addEventListener("load", (event) => event.target.tagName === "IMG" && sharpen(event.target), true);
  const mend = () => {
    for (const image of document.querySelectorAll("#q8-picture img, #q8-gallery img, #q8-strip img")) enlarged.observe(image);
    for (const shown of document.querySelectorAll('div.empty[aria-label]:not([role])')) shown.setAttribute("role", "img");
    for (const button of document.querySelectorAll("button:not([aria-label])"))
      if (button.querySelector("img") && !button.textContent.trim()) button.setAttribute("aria-label", "Picture");
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();

  // Ctrl+Z in the caption and on its canvas: the browser's own knows nothing of what the page wrote there.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest("#q8-caption, #q8-seed"))
      document.querySelector("#q8-try").click();
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || !["z", "y"].includes(key) || !event.target.closest("#q8-caption, #q8-canvas")) return;
    event.preventDefault();
    document.querySelector(key === "y" || event.shiftKey ? "#q8-caption-redo" : "#q8-caption-undo").click();
  });

  const SECONDS = 10;
  const alerts = document.createElement("div");
  alerts.className = "q8-alerts";
  alerts.setAttribute("role", "alert");
  document.querySelector(".gradio-container").append(alerts);
  const text = (escaped) => new DOMParser().parseFromString(escaped, "text/html").body.textContent;
  const say = (title, message) => {
    const alert = document.createElement("div");
    const [head, body, close] = ["strong", "span", "button"].map((tag) => document.createElement(tag));
    head.textContent = title;
    body.textContent = text(message);
    close.textContent = "×";
    close.setAttribute("aria-label", "Close");
    close.onclick = () => alert.remove();
    alert.append(head, close, body);
    alerts.replaceChildren(alert);
    setTimeout(() => alert.remove(), SECONDS * 1000);
  };
  const plain = window.fetch;
  window.fetch = async (...request) => {
    const answer = await plain(...request);
    if ([422, 500].includes(answer.status) && new URL(answer.url).pathname.includes("/gradio_api/run/")) {
      const { title, error } = await answer.clone().json().catch(() => ({}));
      say(title || "Error", error || "Something went wrong; the server's log says what.");
    }
    return answer;
  };
}
