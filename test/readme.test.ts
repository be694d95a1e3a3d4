import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { startNatsServer, type NatsServer } from "../scripts/nats-server.ts";
import * as example from "./support/example.ts";

const { assertAllAcked, assertSuccess, connectAdmin, stateOf } = example;
const execute = promisify(execFile);
const readme = await fs.readFile("README.md", "utf8");
const main = await fs.readFile("src/main.ts", "utf8");

/** Gives the README's code block with a text; throws unless it is in one. */
function codeBlock(text: string): string {
  const parts = readme.split(/^```.*\n/m);
  const blocks = parts.filter((part, i) => i % 2 === 1 && part.includes(text));
  assert.equal(blocks.length, 1, `not in one code block: ${text}`);
  return blocks[0]!;
}

const service = codeBlock("waitOnFirstConnect");

/** Replaces a text that occurs once; throws if it does not. */
function replace(code: string, text: string, replacement: string): string {
  assert.equal(code.split(text).length, 2, `not once: ${text}`);
  return code.replace(text, () => replacement);
}

/**
 * Makes a project like this one in a temporary folder, which goes when the test
 * has ended. Takes its file in src, and gives the folder.
 */
async function makeProject(t: TestContext, file: string, code: string) {
  const cwd = await fs.mkdtemp(join(tmpdir(), "project-"));
  t.after(() => fs.rm(cwd, { recursive: true }));
  await fs.mkdir(join(cwd, "src"));
  await fs.writeFile(join(cwd, "src", file), code);
  for (const name of ["package.json", "package-lock.json", "tsconfig.json"])
    await fs.cp(name, join(cwd, name));
  await fs.symlink(resolve("node_modules"), join(cwd, "node_modules"));
  return cwd;
}

/** Type-checks the README's worker, or a changed one, and starts it. */
async function startWorker(t: TestContext, server: NatsServer, code = service) {
  const there = replace(code, "localhost:4222", `127.0.0.1:${server.port}`);
  const cwd = await makeProject(t, "worker.ts", there);
  await execute("npx", ["tsc"], { cwd });
  const command = "node --import tsx src/worker.ts";
  return { worker: example.run(undefined, { command, cwd }) };
}

describe("README.md", { concurrency: 4 }, () => {
  test("shows the code of src/main.ts", () => {
    const withoutComments = main.replace(/^ *\/\/.*\n/gm, "");
    assert.ok(withoutComments.includes(codeBlock("acks.push")));
  });

  for (const [what, above, stored] of [
    ["streams", "await jsm.streams.add", 10],
    ["consumers", "await jsm.consumers.add", 20],
  ] as const) {
    test(`has a line that lets src/main.ts delete ${what}`, async (t) => {
      const line = codeBlock(`jsm.${what}.delete`);
      const code = replace(main, above, `${line}${above}`);
      const cwd = await makeProject(t, "main.ts", code);
      await using server = await startNatsServer();
      assertSuccess(await example.run(server.url, { cwd }));
      assertSuccess(await example.run(server.url, { cwd }));
      const unacked = stored - 10;
      assert.deepEqual(await stateOf(server), { stored, unacked });
    });
  }

  test("tells how src/main.ts runs with the newer packages", async (t) => {
    let code = main;
    const changes = codeBlock("-import").matchAll(/((^-.*\n)+)((^\+.*\n)+)/gm);
    for (const [, removed, , added] of changes) {
      const [old, replacement] = [removed, added].map((lines) =>
        lines!.replace(/^./gm, ""),
      );
      code = replace(code, old!, replacement!);
    }
    const cwd = await makeProject(t, "main.ts", code);
    await fs.rm(join(cwd, "node_modules"));
    const script = `${codeBlock("npm uninstall")} npx tsc`;
    await execute("sh", ["-ec", script], { cwd });
    await using server = await startNatsServer();
    assertSuccess(await example.run(server.url, { cwd }));
    await assertAllAcked(server, 10);
  });

  test("has a worker that waits for its server, and outlives it", async (t) => {
    await using server = await startNatsServer();
    await server.stop();
    // The worker finds its port open, but no server.
    const knock = createServer((socket) => socket.destroy());
    knock.listen(server.port, "127.0.0.1");
    const { worker } = await startWorker(t, server);
    await once(knock, "connection");
    knock.close();
    await server.restart();
    await example.untilPullWaits(server, worker);

    await using admin = await connectAdmin(server);
    const publishing = (async () => {
      for (let i = 0; ; i++) await admin.js.publish(`events.${i}`, "data");
    })().catch(() => {});
    const acked = async () => (await admin.consumerInfo()).ack_floor.stream_seq;
    await example.until(async () => (await acked()) > 200, worker);
    await server.stop("SIGKILL");
    // Longer than it takes a client with the default settings to give up.
    await pause(22_000);
    await server.restart();
    await publishing;
    await example.untilPullWaits(server, worker);

    await using late = await connectAdmin(server);
    for (let i = 0; i < 200; i++) await late.js.publish(`events.late.${i}`);
    await example.untilAllAcked(server, worker);
    worker.child.kill("SIGTERM");
    const { code, stdout, stderr } = await worker;
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    const { stored } = await stateOf(server);
    await assertAllAcked(server, stored);
    assert.equal(new Set(lines).size, stored);
    // Messages from before the crash, whose acks it lost, came twice at most.
    const lateLines = lines.filter((line) => line.includes("late"));
    assert.equal(lateLines.length, 200);
    assert.ok(lines.length <= 2 * stored - 200);
  });

  test("has a worker that ends on SIGTERM, its server away", async (t) => {
    await using server = await startNatsServer();
    const { worker } = await startWorker(t, server);
    await example.untilPullWaits(server, worker);
    await server.stop("SIGKILL");
    worker.child.kill("SIGTERM");
    const stderr = "the last acks may be lost: DISCONNECT\n";
    assert.deepEqual(await worker, { code: 1, stdout: "", stderr });
  });

  test("has a worker that outlives errors, not its consumer", async (t) => {
    await using server = await startNatsServer();
    const bad = 'if (m.subject === "events.bad") throw new Error("failed");';
    const soon = replace(service, "nak(30_000)", "nak(50)");
    const failing = replace(soon, "const payload", `${bad} const payload`);
    const { worker } = await startWorker(t, server, failing);
    await example.untilPullWaits(server, worker);
    await using admin = await connectAdmin(server);
    for (const what of ["a", "bad", "b"])
      await admin.js.publish(`events.${what}`);
    await example.untilAllAcked(server, worker);
    await admin.jsm.consumers.delete("EVENTS", "consumer");
    const { code, stdout, stderr } = await worker;
    assert.equal(code, 1);
    assert.equal(stdout.match(/events.[ab] /g)?.length, 2);
    assert.equal(stderr.match(/Error: failed/g)?.length, 20);
    assert.match(stderr, /NatsError: consumer deleted/);
  });
});
