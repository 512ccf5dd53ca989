/** The stream of one task, as long as somebody looks: browsers allow six connections to a host. */

import { watchSight } from "../../client/sight.js";

/**
 * Every entry once, also over a time in which nobody looked. Ends with the task, or with the signal.
 * @param {{ api: import("../../client.js").TaskTracker, id: string, signal: AbortSignal, onEvent: (event: any) => void, onConnection: (connection: any) => void, onRefused: (error: unknown) => void }} wish
 */
export function follow({ api, id, signal, onEvent, onConnection, onRefused }) {
  let [told, isOver] = [0, false];
  /** @type {AbortController | undefined} */
  let running;
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
    running?.abort();
    running = undefined;
  };
  const sight = watchSight({ onSeen: () => void (running || isOver || start()), onLost: stop });
  signal.addEventListener("abort", () => {
    sight.end();
    stop();
  });
  // Also where nobody looks yet: a page that is opened in the background is there when somebody does.
  void start();
}
