/** Light, dark, or as the system has it. A classic script, which runs before the page is painted. */
(() => {
  const KEY = "task-tracker.theme";
  const THEMES = ["system", "light", "dark"];
  const root = document.documentElement;
  const kept = () => {
    try {
      return localStorage.getItem(KEY) ?? "";
    } catch {
      // Where a browser keeps nothing for pages, the system is followed.
      return "";
    }
  };
  const show = (/** @type {string} */ theme) => {
    if (theme === "system") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", theme);
  };
  let theme = THEMES.includes(kept()) ? kept() : "system";
  show(theme);

  const changed = () => dispatchEvent(new CustomEvent("themechange"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  globalThis.theme = {
    get current() {
      return theme;
    },
    /** The next of the three. */
    next() {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
      show(theme);
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // It holds for as long as the page does.
      }
      changed();
    },
  };
})();
