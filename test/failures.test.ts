import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { AckPolicy, type JetStreamManager } from "nats";
import * as support from "./support/example.ts";
import {
  assertAllAcked,
  connectAdmin,
  stateOf,
  untilPullsWait,
} from "./support/jetstream.ts";
import { startNatsServer, type NatsServer } from "./support/nats-server.ts";
import { run, start, until } from "./support/program.ts";
import { startRelay, type Intercept, type Side } from "./support/relay.ts";
import { authority, tls, trust } from "./support/tls.ts";

const { assertFailure, assertSuccess, example, tenLines } = support;

// Lines that several rows expect. "…" stands for any words, here and below.
const timeout =
  "TIMEOUT: no answer within 5 s, but the request may have been carried out";
const refused = "CONNECTION_REFUSED: connect ECONNREFUSED …";
const noJetStream =
  "503: JetStream is not enabled, or the stream or consumer was deleted";
const invalidUrl =
  "Invalid URL: NATS_URL has to look like nats://localhost:4222";
const violation = "'Authorization Violation'";
const notNats = "CONNECTION_REFUSED: node provided an undefined error!";
const noTls = "tls: the server does not offer TLS";

const ack = /PUB \$JS\.ACK/;
const login = ["--user", "me", "--pass", "s3cr3t"];

/**
 * Takes a side and what it sends `count` times. Holds that back if the client
 * sends it, and calls `act` with it once it is complete; what that returns goes
 * on. What the server sends before the last of it goes on at once.
 */
function interceptAll(
  side: Side,
  pattern: RegExp,
  count: number,
  act: (seen: string) => ReturnType<Intercept>,
): Intercept {
  let seen = "";
  let done = false;
  return async (data, from) => {
    const found = [...(seen + data).matchAll(new RegExp(pattern, "g"))].length;
    if (done || from !== side || found === 0) return data;
    seen += data;
    done = found >= count;
    if (done) return act(seen);
    return side === "client" ? undefined : data;
  };
}

// The connection breaks as the last of `count` requests or answers like `lost`
// is on its way. Then the stream holds `stored` messages, and `unacked` of them
// are redelivered.
const cuts: {
  step: string;
  from: Side;
  lost: RegExp;
  count?: number;
  stored: number;
  unacked: number;
}[] = [
  {
    step: "connects",
    from: "client",
    lost: /CONNECT/,
    stored: 0,
    unacked: 0,
  },
  {
    step: "asks for JetStream",
    from: "client",
    lost: /JS\.API\.INFO/,
    stored: 0,
    unacked: 0,
  },
  {
    step: "adds the stream",
    from: "client",
    lost: /STREAM\.CREATE/,
    stored: 0,
    unacked: 0,
  },
  {
    step: "adds the consumer",
    from: "client",
    lost: /CONSUMER\.\S*CREATE/,
    stored: 0,
    unacked: 0,
  },
  {
    step: "looks the consumer up",
    from: "client",
    lost: /CONSUMER\.INFO/,
    stored: 0,
    unacked: 0,
  },
  {
    step: "publishes",
    from: "client",
    lost: /PUB events/,
    count: 10,
    stored: 0,
    unacked: 0,
  },
  {
    step: "publishes",
    from: "server",
    lost: /"EVENTS", *"seq"/,
    count: 10,
    stored: 10,
    unacked: 10,
  },
  {
    step: "acks",
    from: "client",
    lost: ack,
    count: 10,
    stored: 10,
    unacked: 10,
  },
  {
    step: "acks",
    from: "server",
    lost: /MSG _INBOX\S+ \S+ +0\r/,
    count: 10,
    stored: 10,
    unacked: 0,
  },
];

// What happens just before the server gets the ten acks; then the line, and
// what the server holds (a frozen one gets the acks late).
const beforeAcks: {
  what: string;
  server?: string[];
  act: (server: NatsServer, jsm: JetStreamManager) => Promise<unknown>;
  line: string;
  holds?: { stored: number; unacked: number };
}[] = [
  {
    what: "the server freezes",
    act: (server) => server.freeze(),
    line: timeout,
  },
  {
    what: "nothing, but the user may not ack",
    server: ["-c", "test/support/ack-denied.conf"],
    act: async () => {},
    line: "'Permissions Violation for Publish to …",
    holds: { stored: 10, unacked: 10 },
  },
  {
    what: "the consumer is deleted",
    act: (_, jsm) => jsm.consumers.delete("EVENTS", "consumer"),
    line: noJetStream,
    holds: { stored: 10, unacked: 0 },
  },
  {
    what: "the stream is deleted",
    act: (_, jsm) => jsm.streams.delete("EVENTS"),
    line: noJetStream,
    holds: { stored: 0, unacked: 0 },
  },
];

// What happens while the example waits for messages, and the line with which it
// ends then; without one, it goes on and reads ten messages.
const whileWaiting: {
  what: string;
  act: (server: NatsServer, jsm: JetStreamManager) => Promise<unknown>;
  line?: string;
}[] = [
  {
    what: "the consumer is deleted",
    act: (_, jsm) => jsm.consumers.delete("EVENTS", "consumer"),
    line: "consumer deleted",
  },
  {
    what: "the stream is deleted",
    act: (_, jsm) => jsm.streams.delete("EVENTS"),
    line: "consumer deleted",
  },
  {
    what: "the server crashes and comes back",
    act: (server) => server.restart(),
  },
  {
    what: "the server comes back and wants a password",
    act: (server) => server.restart(["-js", ...login]),
    line: violation,
  },
  {
    what: "the server comes back without its data",
    act: (server) => server.restart(["-js", "-sd", `${server.folder}/empty`]),
    line: "stream not found",
  },
  {
    what: "the server stalls for 45 s",
    act: async (server) => {
      await server.freeze();
      await pause(45_000);
      server.thaw();
    },
  },
];

const nowhere = "nats://127.0.0.1:1";
const addresses = [
  { url: ",", line: invalidUrl },
  { url: " ", line: invalidUrl },
  { url: "nats://", line: invalidUrl },
  { url: "no server at all", line: invalidUrl },
  { url: `${nowhere},`, line: invalidUrl },
  { url: "nats://me:s3cr3t@", line: invalidUrl },
  { url: "nats://me:s3cr3t@no-server:65536", line: invalidUrl },
  { url: "nats://me:s3c,r3t@127.0.0.1:1", line: invalidUrl },
  { url: "nats://me:%s3cr3t@127.0.0.1:1", line: "URI malformed" },
  { url: "nats://no-host.invalid", line: "getaddrinfo ENOTFOUND …" },
  { url: "localhost:1", line: refused },
  { url: "me:s3cr3t@127.0.0.1:1", line: refused },
  { url: "s3cr3t@127.0.0.1:1", line: refused },
  { url: `${nowhere}, 127.0.0.1:2`, line: refused },
  { url: "nats://me:31337@127.0.0.1:1", line: refused },
  { url: "nats://me:s3cr3t@s3cr3t\ns3cr3t@127.0.0.1:1", line: refused },
];

const noAccount = ["-c", "test/support/no-jetstream.conf"];
const demandsCertificate = ["--tlsverify", "--tlscacert", authority];
const oldTls = { NODE_OPTIONS: "--tls-max-v1.2 --tls-cipher-list=AES128-SHA" };
const servers: {
  what: string;
  server: string[];
  url: string;
  env?: object;
  line: string;
}[] = [
  {
    what: "wants a password",
    server: login,
    url: "nats://localhost:PORT",
    line: violation,
  },
  {
    what: "wants another password",
    server: login,
    url: "nats://me:s3cr3t2@localhost:PORT",
    line: violation,
  },
  {
    what: "has no JetStream",
    server: [],
    url: "nats://localhost:PORT",
    line: noJetStream,
  },
  {
    what: "has JetStream, but not for the user's account",
    server: noAccount,
    url: "nats://localhost:PORT",
    line: "503: jetstream not enabled for account",
  },
  {
    what: "has a certificate of an unknown authority",
    server: tls("localhost"),
    url: "tls://localhost:PORT",
    line: "unable to verify the first certificate…",
  },
  {
    what: "has signed its certificate itself",
    server: tls("elsewhere"),
    url: "tls://localhost:PORT",
    line: "self-signed certificate…",
  },
  {
    what: "has a certificate with another name",
    server: tls("elsewhere"),
    url: "tls://localhost:PORT",
    env: trust("elsewhere"),
    line: "Hostname/IP does not match certificate's altnames: …",
  },
  {
    what: "wants a certificate of the client",
    server: [...tls("localhost"), ...demandsCertificate],
    url: "tls://localhost:PORT",
    env: trust("ca"),
    line: timeout,
  },
  {
    what: "has no cipher in common with the client",
    server: tls("localhost"),
    url: "tls://localhost:PORT",
    env: oldTls,
    line: "…:SSL routines:…",
  },
];

// What is there before the example runs, and stays as it is.
const events = { name: "EVENTS", subjects: ["events.>"] };
const consumer = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };
const existing: {
  what: string;
  add: (jsm: JetStreamManager) => Promise<unknown>;
  line: string;
  lineOf2_9?: string;
}[] = [
  {
    what: "the stream, with a limit",
    add: (jsm) => jsm.streams.add({ ...events, max_msgs: 100 }),
    line: "stream name already in use with a different configuration",
  },
  {
    what: "the stream, with one more subject",
    add: (jsm) =>
      jsm.streams.add({ ...events, subjects: ["events.>", "more"] }),
    line: "stream name already in use with a different configuration",
  },
  {
    what: "another stream, with some of the subjects",
    add: (jsm) => jsm.streams.add({ name: "PART", subjects: ["events.*"] }),
    line: "subjects overlap with an existing stream",
  },
  {
    what: "the consumer, without acks",
    add: async (jsm) => {
      await jsm.streams.add(events);
      const settings = { ...consumer, ack_policy: AckPolicy.None };
      await jsm.consumers.add("EVENTS", settings);
    },
    line: "consumer already exists",
    lineOf2_9: "… can not be updated",
  },
  {
    what: "the consumer, as a push consumer",
    add: async (jsm) => {
      await jsm.streams.add(events);
      const settings = { ...consumer, deliver_subject: "pushed" };
      await jsm.consumers.add("EVENTS", settings);
    },
    line: "consumer already exists",
    lineOf2_9: "… can not be updated",
  },
];

describe("src/main.ts, when something fails,", { concurrency: 12 }, () => {
  // Starts the example so that it will wait: its ten messages are deleted before
  // it asks for them.
  async function startWaiting(server: NatsServer) {
    const admin = await connectAdmin(server);
    const intercept = interceptAll("client", /MSG\.NEXT/, 1, async (pull) => {
      await admin.jsm.streams.purge("EVENTS");
      return pull;
    });
    const relay = await startRelay(server.port, intercept);
    const program = start(example, { url: relay.url });
    return {
      relay,
      program,
      jsm: admin.jsm,
      async [Symbol.asyncDispose]() {
        await program[Symbol.asyncDispose]();
        await relay[Symbol.asyncDispose]();
        await admin[Symbol.asyncDispose]();
      },
    };
  }

  for (const { what, act, line } of whileWaiting) {
    test(`while it waits: ${what}`, async () => {
      await using server = await startNatsServer();
      await using waiting = await startWaiting(server);
      const { program, jsm } = waiting;
      await untilPullsWait(server, program);
      await act(server, jsm);
      if (line) return assertFailure(await program.ended, line);
      await untilPullsWait(server, program);
      await using admin = await connectAdmin(server);
      for (let i = 0; i < 10; i++)
        await admin.js.publish(`events.${i}`, "data");
      assertSuccess(await program.ended);
      await assertAllAcked(server, 10);
    });
  }

  test("while it waits: its server is gone, ten attempts to reconnect", async () => {
    await using server = await startNatsServer();
    await using waiting = await startWaiting(server);
    const { relay, program } = waiting;
    await untilPullsWait(server, program);
    const attempts = relay.hangUp();
    const outcome = await program.ended;
    assertFailure(outcome, notNats);
    assert.equal(attempts(), 10);
  });

  test("while it waits: its request expires after three messages", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    const requestedAt: number[] = [];
    await using relay = await startRelay(server.port, async (data, from) => {
      if (from === "server" || !data.includes("MSG.NEXT")) return data;
      if (requestedAt.length === 0) await admin.jsm.streams.purge("EVENTS");
      requestedAt.push(performance.now());
      return data;
    });
    await using program = start(example, { url: relay.url });
    await untilPullsWait(server, program);
    for (const i of [0, 1, 2]) await admin.js.publish(`events.${i}`, "data");
    const again = () => requestedAt.length === 2;
    await until("it requests again", again, program);
    for (const i of [3, 4, 5, 6, 7, 8, 9])
      await admin.js.publish(`events.${i}`, "data");
    assertSuccess(await program.ended);
    const seconds = (requestedAt[1]! - requestedAt[0]!) / 1_000;
    assert.ok(seconds < 40, `it requested again after ${seconds} s, not 30`);
  });

  for (const { step, from, lost, count = 1, stored, unacked } of cuts) {
    for (const time of ["for a moment", "for good"] as const) {
      const what = from === "client" ? "request" : "answer";
      test(`${what} lost, cut off ${time} as it ${step}`, async () => {
        await using server = await startNatsServer();
        let cutAt = 0;
        const intercept = interceptAll(from, lost, count, async () => {
          cutAt = performance.now();
          relay.cut(time);
        });
        await using relay = await startRelay(server.port, intercept);
        const outcome = await run(example, { url: relay.url });
        const seconds = (performance.now() - cutAt) / 1_000;
        assertFailure(outcome, timeout, step === "acks" ? tenLines : []);
        assert.ok(seconds < 8, `it took ${seconds} s instead of 5`);
        assert.deepEqual(await stateOf(server), { stored, unacked });
      });
    }
  }

  for (const { from, lost } of [
    { from: "client", lost: /MSG\.NEXT/ },
    { from: "server", lost: /MSG events/ },
  ] as const) {
    const what = from === "client" ? "request" : "answer";
    test(`${what} lost, cut off for a moment as it reads`, async () => {
      await using server = await startNatsServer();
      const intercept = interceptAll(from, lost, 1, async () => {
        relay.cut("for a moment");
      });
      await using relay = await startRelay(server.port, intercept);
      assertSuccess(await run(example, { url: relay.url }));
      await assertAllAcked(server, 10);
    });

    test(`${what} lost, cut off for good as it reads`, async () => {
      await using server = await startNatsServer();
      const intercept = interceptAll(from, lost, 1, async () => {
        relay.cut("for good");
      });
      await using relay = await startRelay(server.port, intercept);
      assertFailure(await run(example, { url: relay.url }), refused);
      const state = { stored: 10, unacked: 10 };
      assert.deepEqual(await stateOf(server), state);
    });
  }

  for (const { what, server: args, act, line, holds } of beforeAcks) {
    test(`before the server gets the acks: ${what}`, async () => {
      await using server = await startNatsServer(args);
      await using admin = await connectAdmin(server);
      let ackedAt = 0;
      const intercept = interceptAll("client", ack, 10, async (acks) => {
        ackedAt = performance.now();
        await act(server, admin.jsm);
        return acks;
      });
      await using relay = await startRelay(server.port, intercept);
      const outcome = await run(example, { url: relay.url });
      const seconds = (performance.now() - ackedAt) / 1_000;
      server.thaw();
      assertFailure(outcome, line, tenLines);
      assert.ok(seconds < 10, `it took ${seconds} s instead of 5 at most`);
      if (holds) assert.deepEqual(await stateOf(server), holds);
    });
  }

  for (const { url, line } of addresses) {
    test(`NATS_URL is ${JSON.stringify(url)}`, async () => {
      const outcome = await run(example, { url });
      assertFailure(outcome, line);
      assert.doesNotMatch(outcome.stderr, /s3cr3t|31337/);
    });
  }

  for (const { what, server: args, url, env, line } of servers) {
    test(`the server ${what}`, async () => {
      await using server = await startNatsServer(args);
      const address = url.replace("PORT", `${server.port}`);
      const outcome = await run(example, { url: address, env });
      assertFailure(outcome, line);
      assert.doesNotMatch(outcome.stderr, /s3cr3t/);
    });
  }

  for (const url of [
    "tls://me:s3cr3t@HOST",
    "ssl://me:s3cr3t@HOST",
    "wss://me:s3cr3t@HOST",
    "https://me:s3cr3t@HOST",
    "nats://me:s3cr3t@HOST,tls://HOST",
    "nats://HOST,tls://me:s3cr3t@HOST",
  ]) {
    test(`${url} sends nothing to a server without TLS`, async () => {
      await using server = await startNatsServer();
      let sent = "";
      await using relay = await startRelay(server.port, async (data, from) => {
        if (from === "client") sent += data;
        return data;
      });
      const address = url.replaceAll("HOST", `127.0.0.1:${relay.port}`);
      assertFailure(await run(example, { url: address }), noTls);
      assert.equal(sent, "");
    });
  }

  test("a server that is silent when it connects has 5 s", async () => {
    await using server = await startNatsServer();
    let connectedAt = 0;
    await using relay = await startRelay(server.port, async (data, from) => {
      if (from === "server") return data;
      connectedAt = performance.now();
    });
    const outcome = await run(example, { url: relay.url });
    const seconds = (performance.now() - connectedAt) / 1_000;
    assertFailure(outcome, timeout);
    // A busy machine sees late that the client has connected.
    assert.ok(seconds > 3 && seconds < 8, `it waited for ${seconds} s`);
  });

  const listens = "nats://localhost:4222";
  const canUnshare = spawnSync("unshare", ["-rn", "true"]).status === 0;
  const skip = !canUnshare && "needs `unshare -rn`, for a network of its own";
  for (const url of [undefined, ""]) {
    const value = url === undefined ? "not set" : "empty";
    test(`NATS_URL is ${value}: it tries ${listens}`, { skip }, async () => {
      // In a network with nothing in it, so that nobody's server is meant.
      const outcome = await run(`unshare -rn ${example}`, { url });
      const line = "connect ENETUNREACH 127.0.0.1:4222…";
      assertFailure(outcome, line);
    });
  }

  for (const { what, add, line, lineOf2_9 } of existing) {
    test(`there is ${what}`, async () => {
      await using server = await startNatsServer();
      await using admin = await connectAdmin(server);
      const { streams, consumers } = admin.jsm;
      await add(admin.jsm);
      await admin.js.publish("events.kept");
      const state = async () => {
        const list = await streams.list().next();
        const lists = list.map(({ config }) =>
          consumers.list(config.name).next(),
        );
        return {
          streams: list.map(({ config, state }) => ({ config, state })),
          consumers: (await Promise.all(lists)).flat().map((c) => c.config),
        };
      };
      const before = await state();
      const is2_9 = admin.nc.info!.version.startsWith("2.9.");
      const outcome = await run(example, { url: server.url });
      assertFailure(outcome, (is2_9 && lineOf2_9) || line);
      assert.deepEqual(await state(), before);
    });
  }

  test("docs/troubleshooting.md has each of these lines", async () => {
    const guide = await readFile("docs/troubleshooting.md", "utf8");
    const rows = [...beforeAcks, ...whileWaiting, ...addresses, ...servers];
    const lines = [...rows, ...existing].map(({ line }) => line ?? timeout);
    const in2_9 = existing.map(({ lineOf2_9 }) => lineOf2_9 ?? timeout);
    const all = new Set([...lines, ...in2_9, timeout, notNats, noTls]);
    const absent = [...all].filter((line) => !guide.includes(`\`${line}\``));
    assert.deepEqual(absent, []);
  });
});
