/** What is declared is what is there: types, names, the package. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("..", import.meta.url));
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
/** All that is imported by somebody. */
const modules = ["client.js", "elements.js", ...["client", "elements"].flatMap((name) => readdirSync(join(folder, name)).map((file) => `${name}/${file}`).sort())];
const run = (...args) => {
  try {
    execFileSync(process.execPath, [tsc, ...args], { cwd: folder, encoding: "utf8" });
  } catch (error) {
    assert.fail(error.stdout || error.message);
  }
};

test("the modules and what the declarations promise to callers are well typed", () => run("-p", "."));

test("the declarations are those of the modules", () => {
  // What tsc finds in the modules themselves must be usable as what is declared by hand.
  const out = mkdtempSync(join(folder, "node_modules", ".declared-"));
  try {
    const found = join(out, "found");
    mkdirSync(found);
    const options = ["--allowJs", "--declaration", "--emitDeclarationOnly", "--target", "ES2022", "--module", "NodeNext"];
    run("client.js", "elements.js", ...options, "--outDir", found);
    writeFileSync(join(out, "package.json"), '{ "type": "module" }');
    const lines = ["client", "elements"].map((name) =>
      `import * as found_${name} from "./found/${name}.js"; import * as declared_${name} from "../../${name}.js";\n` +
      `export const ${name}: Record<keyof typeof declared_${name}, unknown> = found_${name};\n` +
      `export const back_${name}: Record<keyof typeof found_${name}, unknown> = declared_${name};`);
    lines.push(
      'import type { Events, EventsOptions, TaskTracker as Declared, TrackOptions, Tracking } from "../../client.js";',
      "export const tracker: Declared = new found_client.TaskTracker();",
      "export const track: <P extends object>(taskId: string, options?: TrackOptions<P>) => Tracking<P> = found_client.track;",
      "export const events: <P extends object>(options?: EventsOptions<P>) => Events<P> = found_client.events;",
    );
    writeFileSync(join(out, "check.ts"), lines.join("\n"));
    run(join(out, "check.ts"), "--noEmit", "--strict", "--target", "ES2022", "--module", "NodeNext", "--skipLibCheck");
  } finally {
    rmSync(out, { recursive: true });
  }
});

test("the elements can be loaded where there is no page", async () => {
  const elements = await import("task-tracker-client/elements.js");
  assert.deepEqual(Object.entries(elements).map(([name, value]) => [name, typeof value]), ["TaskListElement", "TaskProgressElement", "TaskRecentElement"].map((name) => [name, "function"]));
});

test("the package has all that it imports, and nothing else", () => {
  const listed = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  const expected = [
    "LICENSE", "README.md", "client.d.ts", "client.js", ...modules.filter((file) => file.includes("/")),
    "elements.d.ts", "elements.js", "package.json", "types/calls.d.ts", "types/events.d.ts",
  ];
  assert.deepEqual(listed[0].files.map(({ path }) => path).sort(), expected.sort());
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const cargo = readFileSync(join(folder, "../../Cargo.toml"), "utf8");
  assert.match(cargo, new RegExp(`^version = "${version}"$`, "m"), "the client and the server have one version");
  assert.match(cargo, new RegExp(`^license = "${license}"$`, "m"));
});

test("no file is too long to be proofread, and the lock names no registry", () => {
  const files = [...modules, "client.d.ts", "elements.d.ts", "types/calls.d.ts", "types/events.d.ts"];
  for (const file of files) {
    const lines = readFileSync(join(folder, file), "utf8").split("\n").length;
    assert.ok(lines <= 400, `${file} has ${lines} lines`);
  }
  assert.doesNotMatch(readFileSync(join(folder, "package-lock.json"), "utf8"), /"resolved"|https?:\/\//);
});
