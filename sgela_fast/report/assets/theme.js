"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const choice = document.getElementById("theme");
  const key = "sgela-fast-theme";
  // A page opened from a file may not be allowed to remember anything.
  const remembered = (value) => {
    try {
      if (value === undefined) return localStorage.getItem(key) || "";
      localStorage.setItem(key, value);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
    return value || "";
  };
  const apply = (value) => {
    if (value) root.dataset.theme = value;
    else delete root.dataset.theme;
    document.dispatchEvent(new Event("colours"));
  };
  choice.value = ["light", "dark"].includes(remembered()) ? remembered() : "";
  apply(choice.value);
  choice.addEventListener("change", () => {
    remembered(choice.value);
    apply(choice.value);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(choice.value));
  // What does not scroll need not be a stop of the Tab key.
  const regions = document.querySelectorAll(".scroll");
  const settle = () => {
    for (const region of regions) {
      if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
      else region.removeAttribute("tabindex");
    }
  };
  settle();
  addEventListener("resize", settle);
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.kept")) details.open = true;
  });
  for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", settle);
})();
