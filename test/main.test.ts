import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  assertAllAcked,
  assertTenLines,
  manage,
  runExample,
  startExample,
  tenLines,
  until,
} from "./example.ts";
import { startNatsServer } from "./nats-server.ts";
import { eventsInOnePiece, startRelay } from "./relay.ts";

const node = process.execPath;

describe("src/main.ts", { concurrency: 2 }, () => {
  const commands: Record<string, string[]> = {
    "npx tsx src/main.ts": ["npx", "tsx", "src/main.ts"],
    "node --import tsx src/main.ts": [node, "--import", "tsx", "src/main.ts"],
  };
  // From 22.18 on, Node runs TypeScript by itself.
  if ("typescript" in process.features && process.features.typescript) {
    commands["node src/main.ts"] = [node, "src/main.ts"];
  }
  for (const [name, command] of Object.entries(commands)) {
    test(`${name} prints the ten lines, twice in a row`, async () => {
      await using server = await startNatsServer();
      assertTenLines(await runExample(server.url, command));
      await assertAllAcked(server, 10);
      assertTenLines(await runExample(server.url, command));
      await assertAllAcked(server, 20);
    });
  }

  test("finds the server that answers among several", async () => {
    await using server = await startNatsServer();
    // The client tries them in random order: with these odds it meets a dead
    // one first in nine runs of ten.
    const dead = Array.from(
      { length: 9 },
      (_, i) => `nats://127.0.0.1:${i + 1}`,
    );
    assertTenLines(await runExample([...dead, server.url].join()));
    assertTenLines(await runExample(` ${server.url} , ${dead[0]}`));
    await assertAllAcked(server, 20);
  });

  for (const [name, url] of [
    ["unset", undefined],
    ["empty", ""],
  ] as const) {
    test(`turns to localhost:4222 when NATS_URL is ${name}`, async () => {
      await using server = await startNatsServer();
      // What listens there may be somebody's. So in this process the way to
      // localhost:4222, and no other, leads to the server of this test.
      const detour = `
        import net from "node:net";
        const { createConnection } = net;
        net.createConnection = (port, host, ...rest) => {
          if (port !== 4222 || !["localhost", "127.0.0.1", "::1"].includes(host))
            throw new Error("not localhost:4222 but " + host + ":" + port);
          return createConnection(${server.port}, "127.0.0.1", ...rest);
        };`;
      const preload = `data:text/javascript,${encodeURIComponent(detour)}`;
      const imports = ["--import", "tsx", "--import", preload];
      assertTenLines(await runExample(url, [node, ...imports, "src/main.ts"]));
      await assertAllAcked(server, 10);
    });
  }

  test("begins with the messages that were there before", async () => {
    await using server = await startNatsServer();
    await using jsm = await manage(server);
    await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });
    const js = jsm.jetstream();
    await js.publish("events.before", 'say "hi"\n');
    await js.publish("events.before.that", "");

    const first = await runExample(server.url);
    assert.equal(first.stderr, "");
    assert.deepEqual(first.stdout.split("\n"), [
      'got message on subject events.before with payload "say \\"hi\\"\\n"',
      'got message on subject events.before.that with payload ""',
      ...tenLines.slice(0, 8),
      "",
    ]);
    assert.equal(first.code, 0);
    const left = await jsm.consumers.info("EVENTS", "consumer");
    assert.equal(left.ack_floor.stream_seq, 10);
    assert.equal(left.num_pending, 2);

    const second = await runExample(server.url);
    assert.deepEqual(second.stdout.split("\n"), [
      ...tenLines.slice(8),
      ...tenLines.slice(0, 8),
      "",
    ]);
    assert.equal(second.code, 0);
  });

  test("waits for the server eight times", async () => {
    await using server = await startNatsServer();
    let turns = 0;
    let last = "server";
    const count = eventsInOnePiece((from, data) => {
      if (from === "client" && last === "server") turns++;
      last = from;
      return data;
    });
    await using relay = await startRelay(server.port, count);
    assertTenLines(await runExample(relay.url));
    assert.ok(turns <= 8, `${turns} turns`);
  });

  test("leaves when the server has answered all of it", async () => {
    await using server = await startNatsServer();
    let wire = "";
    await using relay = await startRelay(server.port, (_, data) => {
      wire += data;
      return data;
    });
    assertTenLines(await runExample(relay.url));
    // No subscription is left, and the answer to the last PING is in.
    const subscribed = wire.match(/^SUB \S+ \d+\r$/gm);
    const unsubscribed = wire.match(/^UNSUB \d+\r$/gm);
    assert.equal(unsubscribed?.length, subscribed?.length);
    assert.match(wire, /PING\r\nPONG\r\n$/);
  });

  test("five runs at once share the messages", async () => {
    await using server = await startNatsServer();
    const runs = [1, 2, 3, 4, 5].map(() => runExample(server.url));
    const lines: string[] = [];
    for (const { code, stdout, stderr } of await Promise.all(runs)) {
      assert.equal(stderr, "");
      assert.equal(code, 0);
      const ten = stdout.trimEnd().split("\n");
      assert.equal(ten.length, 10);
      lines.push(...ten);
    }
    const fiveOfEach = tenLines.flatMap((line) => Array(5).fill(line));
    assert.deepEqual(lines.sort(), fiveOfEach);
    const consumer = await assertAllAcked(server, 50);
    // None was held back by a run that did not want it, and delivered again.
    assert.equal(consumer.delivered.consumer_seq, 50);
  });

  for (const how of ["by itself", "on Ctrl-C"]) {
    test(`npm run demo cleans up ${how}`, async (t) => {
      const tmp = await mkdtemp(join(tmpdir(), "demo-"));
      t.after(() => rm(tmp, { recursive: true }));
      const demo = ["npm", "run", "-s", "demo"];
      const { child, ended } = startExample(undefined, demo, { TMPDIR: tmp });
      const stores = async () =>
        (await readdir(tmp)).filter((name) => name.startsWith("nats-server-"));
      if (how === "by itself") {
        assertTenLines(await ended);
      } else {
        await until(async () => (await stores()).length > 0, ended);
        assert.equal((await stores()).length, 1, "nothing to clean up yet");
        // A terminal sends it to npm, the demo, the server and the example.
        process.kill(-child.pid!, "SIGINT");
        assert.notEqual((await ended).code, 0);
      }
      assert.deepEqual(await stores(), []);
    });
  }

  test("reads as comments, each with its code below", async () => {
    const text = await readFile("src/main.ts", "utf8");
    for (const block of text.trimEnd().split(/\n\n/)) {
      assert.match(block, /^(\/\/ .+\n)+(?!\/\/)\S/);
      assert.doesNotMatch(block, /\n *\/\/ .*\n[^/]*\n *\/\//, "one comment");
      assert.doesNotMatch(block, /.{81}/);
    }
  });
});
