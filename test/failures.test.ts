import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { AckPolicy, type ConsumerConfig, type StreamConfig } from "nats";
import {
  assertAllAcked,
  assertFails,
  assertTenLines,
  manage,
  runExample,
  startExample,
  until,
  type Outcome,
} from "./example.ts";
import { startNatsServer, type NatsServer } from "./nats-server.ts";
import { startRelay } from "./relay.ts";

const dead = "nats://127.0.0.1:1";
const events = { name: "EVENTS", subjects: ["events.>"] };
const consumer = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };

/** What the server answers to a request that it refuses. */
const refusal = (request: Promise<unknown>): Promise<string> =>
  request.then(
    () => assert.fail("the server refuses nothing here"),
    (err: Error) => err.message,
  );

/**
 * Starts the example on a stream that is emptied before it asks for messages,
 * and returns when the server has its request, and nothing to answer.
 */
async function startWaiting(server: NatsServer) {
  const jsm = await manage(server);
  let emptied = false;
  const relay = await startRelay(server.port, async (_, data) => {
    if (!emptied && data.includes("CONSUMER.MSG.NEXT")) {
      emptied = true;
      await jsm.streams.purge("EVENTS");
    }
    return data;
  });
  const { child, ended } = startExample(relay.url);
  await isWaiting(server, ended);
  return {
    ended,
    jsm,
    async [Symbol.asyncDispose]() {
      child.kill();
      await relay[Symbol.asyncDispose]();
      await jsm[Symbol.asyncDispose]();
    },
  };
}

/** Returns when a request for messages waits at the server, or the run ended. */
async function isWaiting(server: NatsServer, ended: Promise<Outcome>) {
  await using jsm = await manage(server);
  const consumer = () => jsm.consumers.info("EVENTS", "consumer");
  await until(
    async () => !!(await consumer().catch(() => null))?.num_waiting,
    ended,
  );
}

test("the README explains every hint", async () => {
  const explain = (await readFile("src/main.ts", "utf8")).split("hints")[1]!;
  const readme = await readFile("README.md", "utf8");
  const hints = [...explain.matchAll(/"(.+)",$/gm)].map(([, hint]) => hint!);
  assert.equal(hints.length, 7);
  for (const hint of hints) assert.ok(readme.includes(`\`${hint}\``), hint);
});

describe("one line says", { concurrency: 2 }, () => {
  test("that there is no such host", async () => {
    const outcome = await runExample("nats://no\nhost.invalid");
    assertFails(outcome, "nats://no host.invalid", "ENOTFOUND nohost.invalid");
  });

  for (const url of [
    ",",
    "nats://",
    "nats://127.0.0.1:65536",
    "no server at all",
    " ",
    `${dead},`,
  ]) {
    test(`that NATS_URL is at fault: ${JSON.stringify(url)}`, async () => {
      const value = `NATS_URL "${url}"`;
      assertFails(await runExample(url), value, "does not name a server");
    });
  }

  for (const [url, ...words] of [
    ["nats://me:s3cr3t@127.0.0.1:1", "127.0.0.1:1"],
    ["me:s3cr3t@127.0.0.1:1", "127.0.0.1:1"],
    ["nats://me:/s3cr3t,s3cr3t@s3cr3t s3cr3t\ns3cr3t@127.0.0.1:1"],
    [
      "nats://me:s3cr3t@127.0.0.1:2, nats://s3cr3t@127.0.0.1:1",
      "127.0.0.1:2",
      "127.0.0.1:1",
    ],
    ["nats://me:s3cr3t@no-server:65536", "does not name a server"],
    ["nats://me:s3cr3t@", "does not name a server"],
  ] as const) {
    test(`no password: ${JSON.stringify(url)}`, async () => {
      const outcome = await runExample(url);
      assertFails(outcome, ...words);
      assert.doesNotMatch(outcome.stderr, /s3cr3t|me:/);
    });
  }

  test("nothing when a server needs no password of those in NATS_URL", async () => {
    await using server = await startNatsServer();
    // The client alone would take these digits for the port.
    const url = server.url.replace("//", "//me:4222@");
    assertTenLines(await runExample(url));
  });

  test("that the server wants credentials", async () => {
    await using server = await startNatsServer([
      ...["-js", "--user", "me", "--pass", "s3cr3t"],
    ]);
    const words = "refused for lack of credentials";
    assertFails(await runExample(server.url), server.url, words);
    const url = server.url.replace("//", "//me:s3cr3t@");
    const outcome = await runExample(url);
    assertFails(outcome, words);
    assert.doesNotMatch(outcome.stderr, /s3cr3t/);
  });

  test("that JetStream is not enabled", async () => {
    await using server = await startNatsServer([]);
    const outcome = await runExample(server.url);
    assertFails(outcome, "JetStream is not enabled", "nats-server -js");
  });

  test("that the account has no JetStream", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "conf-"));
    t.after(() => rm(folder, { recursive: true }));
    const conf = join(folder, "nats-server.conf");
    await writeFile(
      conf,
      "jetstream {}, accounts { A { users: [{user: a, password: a}] } }, no_auth_user: a",
    );
    await using server = await startNatsServer(["-c", conf]);
    const words = "JetStream not enabled for account";
    assertFails(await runExample(server.url), words);
  });

  for (const [name, difference] of Object.entries<Partial<StreamConfig>>({
    limits: { max_msgs: 100 },
    subjects: { subjects: ["events.>", "more.>"] },
  })) {
    test(`that the stream has other ${name}`, async () => {
      await using server = await startNatsServer();
      await using jsm = await manage(server);
      await jsm.streams.add({ ...events, ...difference });
      await jsm.jetstream().publish("events.kept");
      const before = await jsm.streams.info("EVENTS");
      const words = await refusal(jsm.streams.add(events));
      assertFails(await runExample(server.url), words);
      const { config, state } = await jsm.streams.info("EVENTS");
      assert.deepEqual(config, before.config);
      assert.deepEqual(state, before.state);
    });
  }

  test("that another stream has the subjects", async () => {
    await using server = await startNatsServer();
    await using jsm = await manage(server);
    await jsm.streams.add({ name: "OTHER", subjects: ["events.*"] });
    const words = await refusal(jsm.streams.add(events));
    assertFails(await runExample(server.url), words);
    assert.deepEqual(await jsm.streams.names().next(), ["OTHER"]);
  });

  for (const [name, difference] of Object.entries<Partial<ConsumerConfig>>({
    "wants no acks": { ack_policy: AckPolicy.None },
    "is a push consumer": { deliver_subject: "pushed" },
  })) {
    test(`that the consumer ${name}`, async () => {
      await using server = await startNatsServer();
      await using jsm = await manage(server);
      await jsm.streams.add(events);
      await jsm.consumers.add("EVENTS", { ...consumer, ...difference });
      const before = await jsm.consumers.info("EVENTS", "consumer");
      const words = await refusal(jsm.consumers.add("EVENTS", consumer));
      assertFails(await runExample(server.url), words);
      const after = await jsm.consumers.info("EVENTS", "consumer");
      assert.deepEqual(after.config, before.config);
      assert.equal((await jsm.streams.info("EVENTS")).state.messages, 0);
    });
  }

  test("that the consumer was deleted while it waited", async () => {
    await using server = await startNatsServer();
    await using waiting = await startWaiting(server);
    await waiting.jsm.consumers.delete("EVENTS", "consumer");
    assertFails(await waiting.ended, "consumer deleted", "events remain");
  });

  test("that the stream was deleted while it waited", async () => {
    await using server = await startNatsServer();
    await using waiting = await startWaiting(server);
    await waiting.jsm.streams.delete("EVENTS");
    assertFails(await waiting.ended, "stream is gone");
  });

  test("nothing when the server is killed while it waits", async () => {
    await using server = await startNatsServer();
    await using waiting = await startWaiting(server);
    await server.stop("SIGKILL");
    await server.start();
    await isWaiting(server, waiting.ended);
    await using jsm = await manage(server);
    for (let i = 0; i < 10; i++) {
      await jsm.jetstream().publish(`events.${i}`, "data");
    }
    assertTenLines(await waiting.ended);
    await assertAllAcked(server, 10);
  });

  // Last, when other tests no longer keep the machine busy.
  for (const [url, ...words] of [
    [dead, dead],
    [`${dead},nats://127.0.0.1:2`, dead, "nats://127.0.0.1:2"],
    ["nats://localhost:1", "nats://localhost:1"],
  ] as const) {
    test(`that nothing listens: ${url}`, async () => {
      const outcome = await runExample(url);
      assertFails(outcome, "connection refused", ...words);
      assert.ok(outcome.seconds < 5, `${outcome.seconds} s`);
    });
  }
});
