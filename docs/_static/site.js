// What the theme leaves out for people who use a keyboard or a screen reader.
window.addEventListener("load", async () => {
  for (const button of document.querySelectorAll("nav summary")) {
    button.setAttribute("aria-label", "Show or hide the pages below");
  }
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll("mjx-container")) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0; // can be scrolled by keys
  }
});
