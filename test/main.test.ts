import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { assertSuccess, example, tenLines } from "./support/example.ts";
import { assertAllAcked, connectAdmin } from "./support/jetstream.ts";
import { startNatsServer } from "./support/nats-server.ts";
import { run } from "./support/program.ts";
import { startRelay } from "./support/relay.ts";
import { tls, trust } from "./support/tls.ts";

describe("src/main.ts, when all is well,", { concurrency: 2 }, () => {
  const { features } = process;
  const isNew = "typescript" in features && features.typescript;
  const old = !isNew && "needs Node.js 22.18 or later";
  for (const { command, skip } of [
    { command: "npx tsx src/main.ts", skip: false },
    { command: "node --import tsx src/main.ts", skip: false },
    { command: "node src/main.ts", skip: old },
  ]) {
    test(`prints the ten lines, twice: ${command}`, { skip }, async () => {
      await using server = await startNatsServer();
      assertSuccess(await run(command, { url: server.url }));
      await assertAllAcked(server, 10);
      assertSuccess(await run(command, { url: server.url }));
      await assertAllAcked(server, 20);
    });
  }

  // The client tries several in random order, so it mostly meets a dead one.
  const dead = tenLines.map((_, i) => `nats://127.0.0.1:${i + 1}`).join();
  for (const url of [
    "127.0.0.1:PORT",
    "nats://127.0.0.1:PORT",
    `${dead},nats://127.0.0.1:PORT`,
    " 127.0.0.1:PORT , nats://127.0.0.1:1",
  ]) {
    test(`connects to "${url}"`, async () => {
      await using server = await startNatsServer();
      const address = url.replace("PORT", `${server.port}`);
      assertSuccess(await run(example, { url: address }));
      await assertAllAcked(server, 10);
    });
  }

  const password = ["--user", "m@e", "--pass", "4:2%@/s"];
  const noPassword = ["--user", "me", "--pass", ""];
  const token = ["--auth", "s3:cr@t"];
  for (const { url, server: args } of [
    { url: "nats://m%40e:4%3A2%25%40%2Fs@127.0.0.1:PORT", server: password },
    { url: "m%40e:4%3A2%25%40%2Fs@127.0.0.1:PORT", server: password },
    {
      url: "127.0.0.1:1,m%40e:4%3A2%25%40%2Fs@127.0.0.1:PORT",
      server: password,
    },
    { url: "me@127.0.0.1:PORT", server: noPassword },
    { url: "nats://s3%3Acr%40t@127.0.0.1:PORT", server: token },
    { url: "127.0.0.1:1,s3%3Acr%40t@127.0.0.1:PORT", server: token },
  ]) {
    test(`logs in with "${url}" where ${args[0]} is set`, async () => {
      await using server = await startNatsServer(["-js", ...args]);
      const address = url.replace("PORT", `${server.port}`);
      assertSuccess(await run(example, { url: address }));
    });
  }

  for (const scheme of ["tls://", "nats://", ""]) {
    test(`connects to "${scheme}localhost:PORT" with TLS`, async () => {
      const args = ["-js", ...tls("localhost")];
      await using server = await startNatsServer(args);
      const url = `${scheme}localhost:${server.port}`;
      assertSuccess(await run(example, { url, env: trust("ca") }));
    });
  }

  test("begins with the messages that were there before", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    await admin.jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });
    await admin.js.publish("events.before", 'say "hi"\n');
    await admin.js.publish("events.before.that", "");
    const before = [
      'got message on subject events.before with payload "say \\"hi\\"\\n"',
      'got message on subject events.before.that with payload ""',
    ];
    for (const first of [before, tenLines.slice(8)]) {
      const lines = [...first, ...tenLines.slice(0, 8)];
      assertSuccess(await run(example, { url: server.url }), lines);
      const info = await admin.jsm.consumers.info("EVENTS", "consumer");
      assert.deepEqual([info.num_ack_pending, info.num_pending], [0, 2]);
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
    assertSuccess(await run(example, { url: relay.url }));
    assert.equal(waits, 8, "requests, or groups of requests, that it awaited");
  });

  test("shares the messages among five runs at once, in seconds", async () => {
    await using server = await startNatsServer();
    const started = performance.now();
    const runs = tenLines.slice(5).map(() => run(example, { url: server.url }));
    const lines: string[] = [];
    for (const { code, stdout, stderr } of await Promise.all(runs)) {
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      lines.push(...stdout.trimEnd().split("\n"));
      assert.equal(lines.length % 10, 0, "each prints ten");
    }
    const seconds = (performance.now() - started) / 1_000;
    assert.ok(seconds < 20, `one waited for another: ${seconds} s`);
    const expected = tenLines.flatMap((line) => Array(5).fill(line));
    assert.deepEqual(lines.sort(), expected);
    await using admin = await connectAdmin(server);
    const info = await admin.jsm.consumers.info("EVENTS", "consumer");
    assert.equal(info.delivered.consumer_seq, 50, "some were redelivered");
  });

  test("has comments that fit a documentation page", async () => {
    const lines = (await readFile("src/main.ts", "utf8")).split("\n");
    const isComment = (line?: string) => /^ *\/\//.test(line ?? "");
    const wide = lines.filter((line) => isComment(line) && line.length > 72);
    assert.deepEqual(wide, [], "comments wider than 72 columns");
    const alone = lines.filter((line, i) => isComment(line) && !lines[i + 1]);
    assert.deepEqual(alone, [], "comments without code directly below");
  });
});
