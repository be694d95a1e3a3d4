import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { startNatsServer } from "../scripts/nats-server.ts";
import { makeCertificates } from "./support/certificates.ts";
import {
  assertAllAcked,
  assertLines,
  manage,
  runExample,
  tenLines,
  until,
} from "./support/example.ts";
import { startRelay } from "./support/relay.ts";

const node = process.execPath;
const tls = makeCertificates();

describe("src/main.ts", { concurrency: 2 }, () => {
  const old = !process.features.typescript && "needs Node 22.18 or later";
  for (const [command, skip] of [
    ["npx tsx src/main.ts", false],
    ["node --import tsx src/main.ts", false],
    ["node src/main.ts", old],
  ] as const) {
    test(`prints the ten lines, twice: ${command}`, { skip }, async () => {
      await using server = await startNatsServer();
      const words = command.replace(/^node/, node).split(" ");
      assertLines(await runExample(server.url, { command: words }));
      await assertAllAcked(server, 10);
      assertLines(await runExample(server.url, { command: words }));
      await assertAllAcked(server, 20);
    });
  }

  test("finds the server that answers among several", async () => {
    await using server = await startNatsServer();
    // The client tries them in random order, so it mostly meets a dead one.
    const dead = tenLines.map((_, i) => `nats://127.0.0.1:${i + 1}`);
    assertLines(await runExample([...dead, server.url].join()));
    assertLines(await runExample(` ${server.url} , ${dead[0]}`));
    await assertAllAcked(server, 20);
  });

  test("turns to localhost:4222 when NATS_URL is unset or empty", async () => {
    await using server = await startNatsServer();
    // What listens there may be somebody's. So in this process the way to
    // localhost:4222, and no other, leads to the server of this test.
    const detour = `import net from "node:net";
      const dial = net.createConnection;
      net.createConnection = (port, host, ...rest) =>
        dial(host === "localhost" && port === 4222 ? ${server.port} : 1, ...rest);`;
    const preload = `data:text/javascript,${encodeURIComponent(detour)}`;
    const imports = ["--import", "tsx", "--import", preload];
    const command = [node, ...imports, "src/main.ts"];
    assertLines(await runExample(undefined, { command }));
    assertLines(await runExample("", { command }));
    await assertAllAcked(server, 20);
  });

  test("logs in with the user and the password in NATS_URL", async () => {
    const login = ["--user", "m@e", "--pass", "4:2%@/s"];
    await using server = await startNatsServer(["-js", ...login]);
    const url = server.url.replace("//", "//m%40e:4%3A2%25%40%2Fs@");
    assertLines(await runExample(url));
  });

  for (const scheme of ["tls", "nats"]) {
    test(`speaks TLS with a server that wants it, ${scheme}://`, async () => {
      await using server = await startNatsServer(["-js", ...tls.args]);
      const env = { NODE_EXTRA_CA_CERTS: tls.ca };
      const url = `${scheme}://localhost:${server.port}`;
      assertLines(await runExample(url, { env }));
    });
  }

  test("begins with the messages that were there before", async () => {
    await using server = await startNatsServer();
    await using own = await manage(server);
    await own.jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });
    await own.js.publish("events.before", 'say "hi"\n');
    await own.js.publish("events.before.that", "");
    const before = [
      'got message on subject events.before with payload "say \\"hi\\"\\n"',
      'got message on subject events.before.that with payload ""',
    ];
    for (const first of [before, tenLines.slice(8)]) {
      const lines = [...first, ...tenLines.slice(0, 8)];
      assertLines(await runExample(server.url), lines);
      const { num_ack_pending, num_pending } = await own.consumer();
      assert.deepEqual([num_ack_pending, num_pending], [0, 2]);
    }
  });

  test("waits for the server eight times", async () => {
    await using server = await startNatsServer();
    let turns = 0;
    await using relay = await startRelay(server.port, ({ data, turn }) => {
      turns = turn;
      return data;
    });
    assertLines(await runExample(relay.url));
    assert.ok(turns <= 8, `${turns} turns`);
  });

  test("shares the messages among five runs at once, in seconds", async () => {
    await using server = await startNatsServer();
    const started = performance.now();
    const runs = [1, 2, 3, 4, 5].map(() => runExample(server.url));
    const lines: string[] = [];
    for (const { code, stdout, stderr, at } of await Promise.all(runs)) {
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      assert.ok(at - started < 20_000, "it had to wait for the others");
      lines.push(...stdout.trimEnd().split("\n"));
      assert.equal(lines.length % 10, 0);
    }
    assert.deepEqual(
      lines.sort(),
      tenLines.flatMap((l) => Array(5).fill(l)),
    );
    const consumer = await assertAllAcked(server, 50);
    // None was held back by a run that did not want it, and delivered again.
    assert.equal(consumer.delivered.consumer_seq, 50);
  });

  test("ends when nobody reads what it prints: | head -1", async () => {
    await using server = await startNatsServer();
    const pipe = `"${node}" --import tsx src/main.ts | head -1`;
    const command = ["sh", "-c", pipe];
    const { stdout, stderr } = await runExample(server.url, { command });
    assert.equal(stdout, `${tenLines[0]}\n`);
    assert.match(stderr, /^(write EPIPE\n)?$/);
  });

  test("npm run demo cleans up, by itself and on Ctrl-C", async (t) => {
    const tmp = await mkdtemp(join(tmpdir(), "demo-"));
    t.after(() => rm(tmp, { recursive: true }));
    const stores = async () =>
      (await readdir(tmp)).filter((name) => name.startsWith("nats-server-"));
    const command = ["npm", "run", "-s", "demo"];
    const options = { command, env: { TMPDIR: tmp } };
    assertLines(await runExample(undefined, options));
    assert.deepEqual(await stores(), []);
    const run = runExample(undefined, options);
    await until(async () => (await stores()).length > 0, run);
    assert.equal((await stores()).length, 1, "nothing to clean up yet");
    // A terminal sends it to npm, the demo, the server and the example.
    process.kill(-run.child.pid!, "SIGINT");
    assert.notEqual((await run).code, 0);
    assert.deepEqual(await stores(), []);
  });

  test("reads as comments, each with its code below", async () => {
    const text = await readFile("src/main.ts", "utf8");
    for (const block of text.trimEnd().split(/\n\n/)) {
      assert.match(block, /^(\/\/ .+\n)+(?!\/\/)\S/);
      assert.doesNotMatch(block, /\n *\/\/ .*\n[^/]*\n *\/\//, "one comment");
      assert.doesNotMatch(block, /.{81}/);
    }
  });
});
