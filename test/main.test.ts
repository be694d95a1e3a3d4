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
  assertSuccess,
  example,
  linesOf,
  run,
  start,
  tenLines,
  type Outcome,
} from "./support/program.ts";
import { startRelay, type Side } from "./support/relay.ts";

/** Throws unless a run ended with 1, these lines, and these words on stderr. */
function assertFailure(outcome: Outcome, says: RegExp, stdout = "") {
  const { code, stderr } = outcome;
  assert.deepEqual({ code, stdout: outcome.stdout }, { code: 1, stdout });
  assert.match(stderr, says);
}

const events = { name: "EVENTS", subjects: ["events.>"] };
const consumer = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };

const nowhere = "nats://127.0.0.1:1";
// What keeps the example from starting, and the words on stderr that name it.
const noStart = [
  { what: "no server", url: nowhere, says: /ECONNREFUSED 127\.0\.0\.1:1\b/ },
  { what: "a server without JetStream", server: "", says: /503/ },
  {
    what: "a server that demands a login",
    server: "-js --user me --pass secret",
    says: /Authorization Violation/,
  },
];

// What is there before the example runs, and stays as it is. A consumer with
// other settings is changed by nats-server 2.9 where it can.
const existing = [
  {
    what: "the stream with a limit",
    add: (jsm: JetStreamManager) =>
      jsm.streams.add({ ...events, max_msgs: 100 }),
    says: /stream name already in use with a different configuration/,
  },
  {
    what: "the consumer without acks",
    add: async (jsm: JetStreamManager) => {
      await jsm.streams.add(events);
      const settings = { ...consumer, ack_policy: AckPolicy.None };
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

type Act = (server: NatsServer, jsm: JetStreamManager) => Promise<unknown>;
const deletesConsumer: Act = (_, jsm) =>
  jsm.consumers.delete("EVENTS", "consumer");
const deletesStream: Act = (_, jsm) => jsm.streams.delete("EVENTS");

// What happens just before the server gets the first ack.
const beforeAcks: { what: string; server?: string; act: Act; says: RegExp }[] =
  [
    { what: "it is lost", act: async () => "lost", says: /TIMEOUT/ },
    {
      what: "nothing, but the user may not ack",
      server: "-c test/support/logins/ack-denied.conf",
      act: async () => {},
      says: /Permissions Violation for Publish to "\$JS\.ACK/,
    },
    { what: "the consumer is deleted", act: deletesConsumer, says: /503/ },
    { what: "the stream is deleted", act: deletesStream, says: /503/ },
  ];

// What happens while the example waits for messages, and the words with which
// it ends then; without words, it goes on and reads ten messages. If the client
// looks the consumer up before it is told, it says that there is none.
const whileWaiting: { what: string; act: Act; says?: RegExp }[] = [
  {
    what: "the consumer is deleted",
    act: deletesConsumer,
    says: /consumer (deleted|not found)/,
  },
  {
    what: "the stream is deleted",
    act: deletesStream,
    says: /consumer deleted|(consumer|stream) not found/,
  },
  {
    what: "the server comes back without its data",
    act: (server) => server.restart(`-js -sd ${server.folder}/empty`),
    says: /(stream|consumer) not found/,
  },
  {
    what: "the server crashes and comes back",
    act: (server) => server.restart(),
  },
];

describe("src/main.ts", { concurrency: 8 }, () => {
  test("shares the messages with other runs", async () => {
    await using server = await startNatsServer();
    const options = { url: server.url, limit: 120 };
    const runs = [1, 2, 3].map(() => run(example, options));
    const lines: string[] = [];
    for (const outcome of await Promise.all(runs)) {
      const ten = linesOf(outcome);
      assertSuccess(outcome, ten);
      assert.equal(ten.length, 10);
      lines.push(...ten);
    }
    const expected = tenLines.flatMap((line) => [line, line, line]);
    assert.deepEqual(lines.sort(), expected, "no message is printed twice");
    assert.deepEqual(await stateOf(server), { stored: 30, ackedTo: 30 });
  });

  for (const { step, from, lost, survives } of cuts) {
    for (const time of ["for a moment", "for good"] as const) {
      const what = from === "client" ? "request" : "answer";
      test(`cut off ${time} as it ${step}, ${what} lost`, async () => {
        await using server = await startNatsServer();
        const act = async () => relay.cut(time);
        await using relay = await startRelay(server.port, from, lost, act);
        // A message that is lost on its way comes again after 30 s.
        const limit = survives && time === "for a moment" ? 120 : 60;
        const outcome = await run(example, { url: relay.url, limit });
        const { stored, ackedTo } = await stateOf(server);
        if (survives && time === "for a moment") {
          assertSuccess(outcome);
          assert.deepEqual({ stored, ackedTo }, { stored: 10, ackedTo: 10 });
          return;
        }
        // Node.js ends with 13 when nothing is left that could end the wait.
        assert.equal(outcome.code, survives ? 13 : 1, outcome.stderr);
        assert.ok(ackedTo <= linesOf(outcome).length, "acked, not printed");
      });
    }
  }

  for (const { what, act, says } of whileWaiting) {
    test(`while it waits: ${what}`, async () => {
      await using server = await startNatsServer();
      await using admin = await connectAdmin(server);
      // Its ten messages are deleted before it asks for them.
      const purge = () => admin.jsm.streams.purge("EVENTS");
      const { port } = server;
      await using relay = await startRelay(port, "client", /MSG\.NEXT/, purge);
      await using program = start(example, { url: relay.url, limit: 60 });
      await untilItWaits(server, program);
      await act(server, admin.jsm);
      if (says) return assertFailure(await program.ended, says);
      await untilItWaits(server, program);
      // The first connection may still be away.
      await using later = await connectAdmin(server);
      for (let i = 0; i < 10; i++)
        await later.js.publish(`events.${i}`, "data");
      assertSuccess(await program.ended);
      assert.deepEqual(await stateOf(server), { stored: 10, ackedTo: 20 });
    });
  }

  for (const { what, server: args, act, says } of beforeAcks) {
    test(`before the server gets the first ack: ${what}`, async () => {
      await using server = await startNatsServer(args);
      await using admin = await connectAdmin(server);
      const before = () => act(server, admin.jsm);
      const ack = /PUB \$JS\.ACK/;
      await using relay = await startRelay(server.port, "client", ack, before);
      const outcome = await run(example, { url: relay.url, limit: 60 });
      assertFailure(outcome, says, `${tenLines[0]}\n`);
    });
  }

  test("begins with the messages that were there before", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    await admin.jsm.streams.add(events);
    await admin.js.publish("events.before", 'say\n"hi"');
    for (let i = 0; i < 30; i++) await admin.js.publish("events.empty");
    const first = String.raw`got message on subject events.before with payload "say\n\"hi\""`;
    const empty = 'got message on subject events.empty with payload ""';
    const lines = [first, ...Array<string>(9).fill(empty)];
    assertSuccess(await run(example, { url: server.url }), lines);
    assert.deepEqual(await stateOf(server), { stored: 41, ackedTo: 10 });
    const info = await admin.jsm.consumers.info("EVENTS", "consumer");
    const ahead = info.num_ack_pending;
    assert.ok(ahead <= 10, `${ahead} were fetched and not read`);
  });

  test("connects to one of several servers", async () => {
    await using server = await startNatsServer();
    // The client tries them in random order, so it mostly meets a dead one.
    const dead = tenLines.map((_, i) => `nats://127.0.0.1:${i + 1}`);
    const url = [...dead.slice(5), server.url, ...dead.slice(0, 5)].join();
    assertSuccess(await run(example, { url }));
  });

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
      assertFailure(await run(example, { url: url ?? server.url }), says);
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
        const { config, state } = await streams.info("EVENTS");
        const list = await consumers.list("EVENTS").next();
        return { config, state, consumers: list.map((c) => c.config) };
      };
      const before = await state();
      assertFailure(await run(example, { url: server.url }), says);
      assert.deepEqual(await state(), before);
    });
  }
});
