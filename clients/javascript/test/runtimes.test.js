/** The client in every runtime that it is said to work in, with a server that is killed in the middle. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import readline from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { Server, until } from "./harness.js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const RUNTIMES = {
  "Node.js": [process.execPath],
  Deno: [process.env.DENO ?? "deno", "run", "--no-config", "--no-lock", "--allow-net", "--allow-env"],
  Bun: [process.env.BUN ?? "bun", "run"],
};

for (const [name, [program, ...options]] of Object.entries(RUNTIMES)) {
  test(`it works and watches in ${name}`, async (t) => {
    const server = await Server.start();
    t.after(() => server.stop());
    const taskId = await server.started();
    const running = spawn(program, [...options, here("runtime.js"), server.url, taskId], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => running.kill());
    const [over, heard] = [once(running, "exit"), []];
    readline.createInterface({ input: running.stdout }).on("line", (line) => heard.push(JSON.parse(line)));
    const entries = () => heard.filter(([what]) => what === "entry").map(([, ...entry]) => entry);
    const hears = (count) => Promise.race([until(() => entries().length === count, `${count} entries`), over.then(([code]) => assert.fail(`it ended with ${code}`))]);
    for (const message of ["one", "two", "drei – 三"]) await server.client.progress(taskId, { message });
    await hears(3);
    await server.kill();
    await server.startAgain();
    for (const message of ["four", "five", "six"]) await server.client.progress(taskId, { message });
    await hears(6);
    await server.client.complete(taskId, { result: { rows: 7 } });
    assert.deepEqual(await over, [0, null]);
    assert.deepEqual(heard[0], ["worked", true, "completed"]);
    assert.deepEqual(entries(), [[1, "one"], [2, "two"], [3, "drei – 三"], [4, "four"], [5, "five"], [6, "six"]]);
    assert.deepEqual(heard.findLast(([what]) => what === "status"), ["status", "completed", { rows: 7 }]);
    assert.ok(heard.some(([what, status]) => what === "task" && status === "in_progress"));
  });
}
