import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { startNatsServer } from "../scripts/nats-server.ts";
import * as example from "./support/example.ts";
import { startRelay } from "./support/relay.ts";

const { assertAllAcked, assertSuccess, tenLines, tls, trust } = example;

describe("src/main.ts", { concurrency: 2 }, () => {
  const old = !process.features.typescript && "needs Node 22.18 or later";
  for (const [command, skip] of [
    ["npx tsx src/main.ts", false],
    ["node --import tsx src/main.ts", false],
    ["node src/main.ts", old],
  ] as const) {
    test(`prints the ten lines, twice: ${command}`, { skip }, async () => {
      await using server = await startNatsServer();
      assertSuccess(await example.run(server.url, { command }));
      await assertAllAcked(server, 10);
      assertSuccess(await example.run(server.url, { command }));
      await assertAllAcked(server, 20);
    });
  }

  // The client tries several in random order, so it mostly meets a dead one.
  const dead = tenLines.map((_, i) => `nats://127.0.0.1:${i + 1}`).join();
  const login = ["--user", "m@e", "--pass", "4:2%@/s"];
  for (const [url, args, env] of [
    ["127.0.0.1:PORT", [], {}],
    [`${dead},nats://127.0.0.1:PORT`, [], {}],
    [" 127.0.0.1:PORT , nats://127.0.0.1:1", [], {}],
    ["nats://m%40e:4%3A2%25%40%2Fs@127.0.0.1:PORT", login, {}],
    ["m%40e:4%3A2%25%40%2Fs@127.0.0.1:PORT", login, {}],
    ["tls://localhost:PORT", tls("localhost"), trust("ca")],
    ["nats://localhost:PORT", tls("localhost"), trust("ca")],
    ["localhost:PORT", tls("localhost"), trust("ca")],
  ] as const) {
    test(`connects to "${url}", ${args[0] ?? "plain"}`, async () => {
      await using server = await startNatsServer(["-js", ...args]);
      const address = url.replace("PORT", `${server.port}`);
      assertSuccess(await example.run(address, { env }));
      if (args.length === 0) await assertAllAcked(server, 10);
    });
  }

  test("begins with the messages that were there before", async () => {
    await using server = await startNatsServer();
    await using admin = await example.connectAdmin(server);
    await admin.jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });
    await admin.js.publish("events.before", 'say "hi"\n');
    await admin.js.publish("events.before.that", "");
    const before = [
      'got message on subject events.before with payload "say \\"hi\\"\\n"',
      'got message on subject events.before.that with payload ""',
    ];
    for (const first of [before, tenLines.slice(8)]) {
      const lines = [...first, ...tenLines.slice(0, 8)];
      assertSuccess(await example.run(server.url), lines);
      const { num_ack_pending, num_pending } = await admin.consumerInfo();
      assert.deepEqual([num_ack_pending, num_pending], [0, 2]);
    }
  });

  test("waits for the server eight times", async () => {
    await using server = await startNatsServer();
    let waits = 0;
    let last = "server";
    await using relay = await startRelay(server.port, async (data, from) => {
      // The server asks by itself whether the client is there, after 2 s.
      if (data === (from === "server" ? "PING\r\n" : "PONG\r\n")) return data;
      if (from === "client" && last === "server") waits++;
      last = from;
      // What one side sends in pieces is here before the other side answers.
      await pause(200);
      return data;
    });
    assertSuccess(await example.run(relay.url));
    assert.equal(waits, 8);
  });

  test("shares the messages among five runs at once, in seconds", async () => {
    await using server = await startNatsServer();
    const started = performance.now();
    const runs = [1, 2, 3, 4, 5].map(() => example.run(server.url));
    const lines: string[] = [];
    for (const { code, stdout, stderr } of await Promise.all(runs)) {
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      lines.push(...stdout.trimEnd().split("\n"));
      assert.equal(lines.length % 10, 0);
    }
    assert.ok(performance.now() - started < 20_000, "one waited for another");
    const expected = tenLines.flatMap((line) => Array(5).fill(line));
    assert.deepEqual(lines.sort(), expected);
    await using admin = await example.connectAdmin(server);
    const { delivered } = await admin.consumerInfo();
    assert.equal(delivered.consumer_seq, 50, "no message was redelivered");
  });

  test("npm run demo cleans up, by itself and on Ctrl-C", async (t) => {
    const tmp = await mkdtemp(join(tmpdir(), "demo-"));
    t.after(() => rm(tmp, { recursive: true }));
    const stores = async () =>
      (await readdir(tmp)).filter((name) => name.startsWith("nats-server-"));
    const options = { command: "npm run -s demo", env: { TMPDIR: tmp } };
    assertSuccess(await example.run(undefined, options));
    assert.deepEqual(await stores(), []);
    const demo = example.run(undefined, options);
    await example.until(async () => (await stores()).length > 0, demo);
    assert.equal((await stores()).length, 1, "nothing to clean up yet");
    // A terminal sends it to npm, the demo, the server and the example.
    process.kill(-demo.child.pid!, "SIGINT");
    assert.notEqual((await demo).code, 0);
    assert.deepEqual(await stores(), []);
  });

  test("has comments that fit a documentation page", async () => {
    const text = await readFile("src/main.ts", "utf8");
    assert.doesNotMatch(text, /^ *\/\/.*\n\n/m, "no code directly below");
    assert.doesNotMatch(text, /^(?=.{73}) *\/\//m, "wider than 72 columns");
  });
});
