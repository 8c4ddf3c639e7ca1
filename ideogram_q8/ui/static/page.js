// Run by Gradio when the page is there: mends roles that its own components lack, as they appear.
() => {
  const mend = () => {
    for (const shown of document.querySelectorAll('div.empty[aria-label]:not([role])')) shown.setAttribute("role", "img");
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();
}
