/** Whether somebody looks at the page: connections are scarce, and none is kept for nobody. */

/** For how long a page may be hidden before it hangs up. */
const HIDDEN_MS = 60_000;

/**
 * Tells when the page has been hidden for a while, and whenever it is looked at, or may be: where there is no page somebody always does.
 * @param {{ onSeen: () => void, onLost: () => void }} listeners
 * @returns {{ look: () => void, end: () => void }} to look now, and to look no more
 */
export function watchSight({ onSeen, onLost }) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const look = () => {
    clearTimeout(timer);
    if (globalThis.document?.hidden) timer = setTimeout(onLost, HIDDEN_MS);
    else onSeen();
  };
  globalThis.document?.addEventListener("visibilitychange", look);
  return {
    look,
    end() {
      clearTimeout(timer);
      globalThis.document?.removeEventListener("visibilitychange", look);
    },
  };
}
