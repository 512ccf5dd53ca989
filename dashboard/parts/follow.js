/** The stream of one task, as long as somebody looks: browsers allow six connections to a host. */

/** For how long a page may be hidden before its stream is closed. */
const HIDDEN_MS = 60_000;

/**
 * Every entry once, also over a time in which nobody looked. Ends with the task, or with the signal.
 * @param {{ api: import("../../client.js").TaskTracker, id: string, signal: AbortSignal, onEvent: (event: any) => void, onConnection: (connection: any) => void, onRefused: (error: unknown) => void }} wish
 */
export function follow({ api, id, signal, onEvent, onConnection, onRefused }) {
  let [told, isOver] = [0, false];
  /** @type {AbortController | undefined} */
  let running;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const start = async () => {
    const mine = (running = new AbortController());
    try {
      for await (const event of api.track(id, { afterSeqId: told, signal: mine.signal, onConnection: (now) => mine.signal.aborted || onConnection(now) })) {
        if (event.event === "progress") told = event.data.seqId;
        else if (event.event === "gap") told = event.data.to;
        onEvent(event);
      }
      isOver = true;
    } catch (error) {
      if (mine.signal.aborted) return;
      isOver = true;
      onRefused(error);
    }
  };
  const stop = () => {
    clearTimeout(timer);
    running?.abort();
    running = undefined;
  };
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(stop, HIDDEN_MS);
    else if (!running && !isOver) void start();
  };
  document.addEventListener("visibilitychange", look);
  signal.addEventListener("abort", () => {
    document.removeEventListener("visibilitychange", look);
    stop();
  });
  // Also where nobody looks yet: a page that is opened in the background is there when somebody does.
  void start();
}
