import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { AckPolicy, type JetStreamManager } from "nats";
import {
  connectAdmin,
  startNatsServer,
  stateOf,
  untilItWaits,
  type NatsServer,
} from "./support/nats-server.ts";
import {
  example,
  run,
  start,
  tenLines,
  type Outcome,
} from "./support/program.ts";
import { startRelay, type Side } from "./support/relay.ts";

/** Throws unless a run succeeded: these lines, nothing else, exit code 0. */
function assertSuccess(outcome: Outcome, lines = tenLines) {
  const stdout = lines.map((line) => `${line}\n`).join("");
  assert.deepEqual(outcome, { code: 0, stdout, stderr: "" });
}

/** Throws unless the stream holds so many messages, and all are acked. */
async function assertAllAcked(server: NatsServer, stored: number) {
  assert.deepEqual(await stateOf(server), { stored, unacked: 0 });
}

/**
 * Gives what `startRelay` takes: calls `act` with the first of what one side
 * sends, before the other side gets it. What `act` gives goes on.
 */
function onFirst(
  side: Side,
  pattern: RegExp,
  act: (data: string) => Promise<string | void>,
) {
  let done = false;
  return async (data: string, from: Side) => {
    if (done || from !== side || !pattern.test(data)) return data;
    done = true;
    return act(data);
  };
}

const events = { name: "EVENTS", subjects: ["events.>"] };
const consumer = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };

// What keeps the example from starting, and the words on stderr that name it.
const nowhere = "nats://127.0.0.1:1";
const noStart: { what: string; server?: string; url?: string; says: RegExp }[] =
  [
    { what: "no server", url: nowhere, says: /CONNECTION_REFUSED/ },
    {
      what: "two dead servers",
      url: `${nowhere},127.0.0.1:2`,
      says: /REFUSED/,
    },
    {
      what: "an unknown host",
      url: "no-host.invalid",
      says: /ENOTFOUND no-host/,
    },
    { what: "no address", url: "no address", says: /Invalid URL/ },
    { what: "a server without JetStream", server: "", says: /503/ },
    {
      what: "an account without JetStream",
      server: "-c test/support/logins/no-jetstream.conf",
      says: /503/,
    },
    {
      what: "a server that demands a login",
      server: "-js --user me --pass secret",
      says: /Authorization Violation/,
    },
  ];

// What is there before the example runs, and stays as it is. A consumer with
// other settings is changed by nats-server 2.9 where it can.
const existing: {
  what: string;
  add: (jsm: JetStreamManager) => Promise<unknown>;
  says: RegExp;
}[] = [
  {
    what: "the stream with a limit",
    add: (jsm) => jsm.streams.add({ ...events, max_msgs: 100 }),
    says: /stream name already in use with a different configuration/,
  },
  {
    what: "another stream with some of the subjects",
    add: (jsm) => jsm.streams.add({ name: "PART", subjects: ["events.*"] }),
    says: /subjects overlap with an existing stream/,
  },
  {
    what: "the consumer without acks",
    add: async (jsm) => {
      await jsm.streams.add(events);
      const settings = { ...consumer, ack_policy: AckPolicy.None };
      await jsm.consumers.add("EVENTS", settings);
    },
    says: /consumer already exists|can not be updated/,
  },
  {
    what: "a push consumer of the same name",
    add: async (jsm) => {
      await jsm.streams.add(events);
      const settings = { ...consumer, deliver_subject: "pushed" };
      await jsm.consumers.add("EVENTS", settings);
    },
    says: /consumer already exists|can not be updated/,
  },
];

// The connection breaks as the first request or answer of a kind is on its way.
// What the example survives is a break for a moment while it reads.
const cuts: { step: string; from: Side; lost: RegExp; survives?: true }[] = [
  { step: "connects", from: "client", lost: /CONNECT/ },
  { step: "asks for JetStream", from: "client", lost: /JS\.API\.INFO/ },
  { step: "adds the stream", from: "client", lost: /STREAM\.CREATE/ },
  { step: "adds the stream", from: "server", lost: /stream_create_response/ },
  { step: "adds the consumer", from: "client", lost: /CONSUMER\.\S*CREATE/ },
  { step: "publishes", from: "client", lost: /PUB events/ },
  { step: "publishes", from: "server", lost: /"EVENTS", *"seq"/ },
  { step: "looks the consumer up", from: "client", lost: /CONSUMER\.INFO/ },
  { step: "requests", from: "client", lost: /MSG\.NEXT/, survives: true },
  { step: "receives", from: "server", lost: /MSG events/, survives: true },
  { step: "acks", from: "client", lost: /PUB \$JS\.ACK/ },
  { step: "acks", from: "server", lost: /MSG _INBOX\S+ \S+ +0\r/ },
];

// What happens just before the server gets the first ack.
const beforeAcks: {
  what: string;
  server?: string;
  act: (server: NatsServer, jsm: JetStreamManager) => Promise<unknown>;
  says: RegExp;
}[] = [
  {
    what: "the server freezes",
    act: (server) => server.freeze(),
    says: /TIMEOUT/,
  },
  {
    what: "nothing, but the user may not ack",
    server: "-c test/support/logins/ack-denied.conf",
    act: async () => {},
    says: /Permissions Violation for Publish to "\$JS\.ACK/,
  },
  {
    what: "the consumer is deleted",
    act: (_, jsm) => jsm.consumers.delete("EVENTS", "consumer"),
    says: /503/,
  },
  {
    what: "the stream is deleted",
    act: (_, jsm) => jsm.streams.delete("EVENTS"),
    says: /503/,
  },
];

// What happens while the example waits for messages, and the words with which
// it ends then; without words, it goes on and reads ten messages.
const whileWaiting: {
  what: string;
  act: (server: NatsServer, jsm: JetStreamManager) => Promise<unknown>;
  says?: RegExp;
}[] = [
  {
    what: "the consumer is deleted",
    act: (_, jsm) => jsm.consumers.delete("EVENTS", "consumer"),
    says: /consumer deleted/,
  },
  {
    what: "the stream is deleted",
    act: (_, jsm) => jsm.streams.delete("EVENTS"),
    says: /consumer deleted/,
  },
  {
    what: "the server comes back without its data",
    act: (server) => server.restart(`-js -sd ${server.folder}/empty`),
    says: /stream not found/,
  },
  {
    what: "the server crashes and comes back",
    act: (server) => server.restart(),
  },
];

describe("src/main.ts", { concurrency: 12 }, () => {
  test("shares the messages with other runs", async () => {
    await using server = await startNatsServer();
    const runs = [1, 2, 3].map(() => run(example, { url: server.url }));
    const lines: string[] = [];
    for (const { code, stdout, stderr } of await Promise.all(runs)) {
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      lines.push(...stdout.trimEnd().split("\n"));
      assert.equal(lines.length % 10, 0, "each prints ten");
    }
    const expected = tenLines.flatMap((line) => [line, line, line]);
    assert.deepEqual(lines.sort(), expected, "no message is printed twice");
    await assertAllAcked(server, 30);
  });

  for (const { step, from, lost, survives } of cuts) {
    for (const time of ["for a moment", "for good"] as const) {
      const what = from === "client" ? "request" : "answer";
      test(`cut off ${time} as it ${step}, ${what} lost`, async () => {
        await using server = await startNatsServer();
        const intercept = onFirst(from, lost, async () => relay.cut(time));
        await using relay = await startRelay(server.port, intercept);
        const outcome = await run(example, { url: relay.url, limit: 60 });
        if (survives && time === "for a moment") {
          assertSuccess(outcome);
          await assertAllAcked(server, 10);
          return;
        }
        // Node.js ends with 13 when nothing is left that could end the wait.
        assert.equal(outcome.code, survives ? 13 : 1, outcome.stderr);
        const { stored, unacked } = await stateOf(server);
        const printed = outcome.stdout.split("\n").length - 1;
        assert.ok(stored - unacked <= printed, "acked, but not printed");
      });
    }
  }

  for (const { what, act, says } of whileWaiting) {
    test(`while it waits: ${what}`, async () => {
      await using server = await startNatsServer();
      await using admin = await connectAdmin(server);
      // Its ten messages are deleted before it asks for them.
      const intercept = onFirst("client", /MSG\.NEXT/, async (request) => {
        await admin.jsm.streams.purge("EVENTS");
        return request;
      });
      await using relay = await startRelay(server.port, intercept);
      await using program = start(example, { url: relay.url });
      await untilItWaits(server, program);
      const actsAt = performance.now();
      await act(server, admin.jsm);
      if (says) {
        const { code, stdout, stderr } = await program.ended;
        assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
        assert.match(stderr, says);
        assert.ok(performance.now() - actsAt < 10_000, "within seconds");
        return;
      }
      await untilItWaits(server, program);
      await using later = await connectAdmin(server);
      for (let i = 0; i < 10; i++)
        await later.js.publish(`events.${i}`, "data");
      assertSuccess(await program.ended);
      await assertAllAcked(server, 10);
    });
  }

  for (const { what, server: args, act, says } of beforeAcks) {
    test(`before the server gets an ack: ${what}`, async () => {
      await using server = await startNatsServer(args);
      await using admin = await connectAdmin(server);
      const intercept = onFirst("client", /PUB \$JS\.ACK/, async (ack) => {
        await act(server, admin.jsm);
        return ack;
      });
      await using relay = await startRelay(server.port, intercept);
      const outcome = await run(example, { url: relay.url, limit: 60 });
      const { code, stdout, stderr } = outcome;
      assert.deepEqual(
        { code, stdout },
        { code: 1, stdout: `${tenLines[0]}\n` },
      );
      assert.match(stderr, says);
    });
  }

  const { features } = process;
  const stripsTypes = "typescript" in features && features.typescript;
  const skipOld = !stripsTypes && "needs Node.js 22.18 or later";
  for (const { command, skip } of [
    { command: "npx tsx src/main.ts", skip: false },
    { command: "node src/main.ts", skip: skipOld },
  ]) {
    test(`prints the ten lines, twice: ${command}`, { skip }, async () => {
      await using server = await startNatsServer();
      assertSuccess(await run(command, { url: server.url }));
      await assertAllAcked(server, 10);
      assertSuccess(await run(command, { url: server.url }));
      await assertAllAcked(server, 20);
      await using admin = await connectAdmin(server);
      const { config } = await admin.jsm.consumers.info("EVENTS", "consumer");
      assert.equal(config.durable_name, "consumer");
      assert.equal(config.deliver_subject, undefined, "a pull consumer");
      assert.equal(config.ack_policy, AckPolicy.Explicit);
    });
  }

  test("begins with the messages that were there before", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    await admin.jsm.streams.add(events);
    await admin.js.publish("events.before", 'say\n"hi"');
    for (let i = 0; i < 30; i++) await admin.js.publish("events.empty");
    const first =
      'got message on subject events.before with payload "say\\n\\"hi\\""';
    const empty = 'got message on subject events.empty with payload ""';
    const lines = [first, ...Array<string>(9).fill(empty)];
    assertSuccess(await run(example, { url: server.url }), lines);
    assert.deepEqual(await stateOf(server), { stored: 41, unacked: 31 });
    const info = await admin.jsm.consumers.info("EVENTS", "consumer");
    const ahead = info.num_ack_pending;
    assert.ok(ahead <= 10, `${ahead} were fetched and not read`);
  });

  // The client tries several in random order, so it mostly meets a dead one.
  const dead = tenLines.map((_, i) => `nats://127.0.0.1:${i + 1}`).join();
  for (const address of [
    "127.0.0.1:PORT",
    `${dead},nats://127.0.0.1:PORT`,
    " 127.0.0.1:PORT , nats://127.0.0.1:1",
  ]) {
    test(`connects to "${address}"`, async () => {
      await using server = await startNatsServer();
      const url = address.replace("PORT", `${server.port}`);
      assertSuccess(await run(example, { url }));
    });
  }

  const canUnshare = spawnSync("unshare", ["-rn", "true"]).status === 0;
  const skip = !canUnshare && "needs `unshare -rn`, for a network of its own";
  for (const url of [undefined, ""]) {
    const value = url === undefined ? "not set" : "empty";
    test(`tries localhost:4222 if NATS_URL is ${value}`, { skip }, async () => {
      // In a network with nothing in it, so that nobody's server is meant.
      const outcome = await run(`unshare -rn ${example}`, { url });
      assert.match(outcome.stderr, /ENETUNREACH 127\.0\.0\.1:4222/);
    });
  }

  for (const { what, server: args, url, says } of noStart) {
    test(`fails where there is ${what}`, async () => {
      await using server = await startNatsServer(args);
      const outcome = await run(example, { url: url ?? server.url });
      const { code, stdout, stderr } = outcome;
      assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
      assert.match(stderr, says);
    });
  }

  for (const { what, add, says } of existing) {
    test(`fails where there is ${what}, and changes nothing`, async () => {
      await using server = await startNatsServer();
      await using admin = await connectAdmin(server);
      const { streams, consumers } = admin.jsm;
      await add(admin.jsm);
      await admin.js.publish("events.kept");
      const state = async () => {
        const [stream, ...others] = await streams.list().next();
        const { config, state } = stream!;
        const list = await consumers.list(config.name).next();
        return { config, state, others, list: list.map((c) => c.config) };
      };
      const before = await state();
      const outcome = await run(example, { url: server.url });
      const { code, stdout, stderr } = outcome;
      assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
      assert.match(stderr, says);
      assert.deepEqual(await state(), before);
    });
  }
});
