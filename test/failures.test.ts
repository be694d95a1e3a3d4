import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { AckPolicy, type JetStreamManager } from "nats";
import { startNatsServer, type NatsServer } from "../scripts/nats-server.ts";
import * as example from "./support/example.ts";
import { startRelay, type Intercept, type Side } from "./support/relay.ts";

const { assertAllAcked, assertSuccess, connectAdmin, stateOf } = example;
const { tenLines, tls, trust } = example;
const events = { name: "EVENTS", subjects: ["events.>"] };
const consumer = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };
const ack = /PUB \$JS.ACK/g;
const login = ["--user", "me", "--pass", "s3cr3t"];

// The beginnings of lines that the README quotes.
const denied = "'Authorization Violation'";
const gone = "503: JetStream is not enabled";
const refused = "CONNECTION_REFUSED: connect";

const readme = await readFile("README.md", "utf8");
const quotes = Array.from(readme.matchAll(/`([^`\n]+)`/g), ([, text]) => text!);

/**
 * Throws unless a run failed as it should: with exit code 1 and one line on
 * stderr, as the README quotes it ("…" stands for any words, or none). Takes how
 * that line begins there, and what is printed before it.
 */
function assertFailure(
  { code, stdout, stderr }: example.Outcome,
  beginning: string,
  printed: string[] = [],
) {
  const [line, other] = quotes.filter((text) => text.startsWith(beginning));
  assert.ok(line && !other, `not once in the README: ${beginning}`);
  const words = line.split("…").map((s) => s.replace(/[^\w ]/g, "\\$&"));
  assert.match(stderr, new RegExp(`^${words.join(".*")}\n$`));
  assert.doesNotMatch(stderr, /s3cr3t|31337/);
  assert.deepEqual(stdout.split("\n"), [...printed, ""]);
  assert.equal(code, 1);
}

/**
 * Intercepts what one side sends from the first match of `pattern` to the last,
 * which is the tenth if `pattern` is global. What the client sends is held back
 * till then. Gives it to `act` once; what that returns goes on.
 */
function interceptAll(
  side: Side,
  pattern: RegExp,
  act: (seen: string) => ReturnType<Intercept>,
): Intercept {
  let seen = "";
  let done = false;
  return async (data, from) => {
    if (done || from !== side || !(seen + data).match(pattern)) return data;
    seen += data;
    done = seen.match(pattern)!.length === (pattern.global ? 10 : 1);
    if (done) return act(seen);
    return side === "client" ? undefined : data;
  };
}

describe("src/main.ts", { concurrency: 20 }, () => {
  // What is lost when the connection breaks as the example …, the line, how
  // many messages are stored then, and how many of them are redelivered.
  for (const [from, step, lost, line, stored, redelivered] of [
    ["client", "connects", /CONNECT/, "TIMEOUT", 0, 0],
    ["client", "asks for JetStream", /JS.API.INFO/, "TIMEOUT", 0, 0],
    ["client", "adds the stream", /STREAM.CREATE/, "TIMEOUT", 0, 0],
    ["client", "adds the consumer", /CONSUMER.\S*CREATE/, "TIMEOUT", 0, 0],
    ["client", "publishes", /PUB events/g, "TIMEOUT", 0, 0],
    ["server", "publishes", /"EVENTS", *"seq"/g, "TIMEOUT", 10, 10],
    ["client", "looks the consumer up", /CONSUMER.INFO/, "TIMEOUT", 10, 10],
    ["client", "waits for messages", /MSG.NEXT/, refused, 10, 10],
    ["server", "waits for messages", /MSG events/, refused, 10, 10],
    ["client", "acks", ack, "TIMEOUT", 10, 10],
    ["server", "acks", /MSG _INBOX\S+ \S+ +0\r/g, "TIMEOUT", 10, 0],
  ] as const) {
    const waits = step === "waits for messages";
    for (const time of ["for a moment", "for good"] as const) {
      const what = from === "client" ? "request" : "answer";
      test(`is cut off ${time} as it ${step}, its ${what} is lost`, async () => {
        await using server = await startNatsServer();
        let cutAt = 0;
        const intercept = interceptAll(from, lost, async () => {
          cutAt = performance.now();
          relay.cut(time);
        });
        await using relay = await startRelay(server.port, intercept);
        const outcome = await example.run(relay.url);
        assert.ok(performance.now() - cutAt < (waits ? 40_000 : 8_000));
        // Only a wait for messages survives a break.
        const survives = waits && time === "for a moment";
        if (survives) assertSuccess(outcome);
        else assertFailure(outcome, line, step === "acks" ? tenLines : []);
        const unacked = survives ? 0 : redelivered;
        assert.deepEqual(await stateOf(server), { stored, unacked });
      });
    }
  }

  for (const [what, line, stored, unacked] of [
    ["the link goes dead", "TIMEOUT", 10, 10],
    ["the user may not ack", "'Permissions Violation", 10, 10],
    ["the consumer is deleted", gone, 10, 0],
    ["the stream is deleted", gone, 0, 0],
  ] as const) {
    test(`${what} before its acks arrive`, async () => {
      const args = ["-c", "test/support/ack-denied.conf"];
      const denies = what === "the user may not ack";
      await using server = await startNatsServer(denies ? args : ["-js"]);
      await using admin = await connectAdmin(server);
      const { consumers, streams } = admin.jsm;
      let ackedAt = 0;
      const intercept = interceptAll("client", ack, async (acks) => {
        ackedAt = performance.now();
        if (what === "the consumer is deleted")
          await consumers.delete("EVENTS", "consumer");
        if (what === "the stream is deleted") await streams.delete("EVENTS");
        if (what !== "the link goes dead") return acks;
        server.child!.kill("SIGSTOP");
      });
      await using relay = await startRelay(server.port, intercept);
      const outcome = await example.run(relay.url);
      server.child!.kill("SIGCONT");
      assert.ok(performance.now() - ackedAt < 10_000);
      assertFailure(outcome, line, tenLines);
      assert.deepEqual(await stateOf(server), { stored, unacked });
    });
  }

  // The example waits, since its ten messages are deleted before it asks for
  // them; then something happens, and it goes on, or ends with a line.
  function testWaiting(
    what: string,
    line: string | null,
    happens: (server: NatsServer, jsm: JetStreamManager) => Promise<unknown>,
  ) {
    test(`waits for messages when ${what}`, async () => {
      await using server = await startNatsServer();
      await using admin = await connectAdmin(server);
      const intercept = interceptAll("client", /MSG.NEXT/, async (request) => {
        await admin.jsm.streams.purge("EVENTS");
        return request;
      });
      await using relay = await startRelay(server.port, intercept);
      const run = example.run(relay.url);
      await example.untilPullWaits(server, run);
      await happens(server, admin.jsm);
      if (line) return assertFailure(await run, line);
      await example.untilPullWaits(server, run);
      await using late = await connectAdmin(server);
      for (let i = 0; i < 10; i++) await late.js.publish(`events.${i}`, "data");
      assertSuccess(await run);
      await assertAllAcked(server, 10);
    });
  }
  testWaiting("its consumer is deleted", "consumer deleted", (_, jsm) =>
    jsm.consumers.delete("EVENTS", "consumer"),
  );
  testWaiting("its stream is deleted", "consumer deleted", (_, jsm) =>
    jsm.streams.delete("EVENTS"),
  );
  testWaiting("its server crashes", null, (server) => server.restart());
  testWaiting("a password is set", denied, (server) => server.restart(login));
  testWaiting("its server is back, empty", "stream not found", (server) =>
    server.restart(["-js", "-sd", `${server.store}/empty`]),
  );
  testWaiting("its server stalls for 45 s", null, async ({ child }) => {
    child!.kill("SIGSTOP");
    await pause(45_000);
    child!.kill("SIGCONT");
  });

  const dead = "nats://127.0.0.1:1";
  for (const [url, line] of [
    [",", "Invalid URL:"],
    [" ", "Invalid URL:"],
    ["nats://", "Invalid URL:"],
    ["no server at all", "Invalid URL:"],
    [`${dead},`, "Invalid URL:"],
    ["nats://me:s3cr3t@", "Invalid URL:"],
    ["nats://me:s3cr3t@no-server:65536", "Invalid URL:"],
    ["nats://me:s3c,r3t@127.0.0.1:1", "Invalid URL:"],
    ["nats://me:%s3cr3t@127.0.0.1:1", "URI malformed"],
    ["nats://no-host.invalid", "getaddrinfo ENOTFOUND …"],
    ["localhost:1", refused],
    ["me:s3cr3t@127.0.0.1:1", refused],
    [`${dead}, 127.0.0.1:2`, refused],
    ["nats://me:31337@127.0.0.1:1", refused],
    ["nats://me:s3cr3t@s3cr3t\ns3cr3t@127.0.0.1:1", refused],
  ] as const) {
    test(`NATS_URL is ${JSON.stringify(url)}`, async () => {
      assertFailure(await example.run(url), line);
    });
  }

  const conf = ["-c", "test/support/no-jetstream.conf"];
  const ca = "test/support/certificates/ca.pem";
  const verify = [...tls("localhost"), "--tlsverify", "--tlscacert", ca];
  const old = { NODE_OPTIONS: "--tls-max-v1.2 --tls-cipher-list=AES128-SHA" };
  for (const [what, args, url, line, env] of [
    ["wants a password", login, "nats://", denied],
    ["wants another password", login, "nats://me:s3cr3t2@", denied],
    ["has no JetStream", [], "nats://", gone],
    ["has none for the account", conf, "nats://", "503: jetstream not enabled"],
    ["has an unknown certificate", tls("localhost"), "tls://", "unable to"],
    ["signed its own", tls("elsewhere"), "tls://", "self-signed"],
    ["is misnamed", tls("elsewhere"), "tls://", "Hostname", trust("elsewhere")],
    ["wants a certificate", verify, "tls://", "TIMEOUT", trust("ca")],
    ["has no cipher in common", tls("localhost"), "tls://", "…:SSL", old],
  ] as const) {
    test(`the server ${what}: ${url}`, async () => {
      await using server = await startNatsServer([...args]);
      const address = `${url}localhost:${server.port}`;
      assertFailure(await example.run(address, { env }), line);
    });
  }

  for (const [list, line] of [
    ["nats://me:s3cr3t@HOST", "TIMEOUT"],
    ["tls://me:s3cr3t@HOST", "tls: the"],
    ["ssl://me:s3cr3t@HOST", "tls: the"],
    ["wss://me:s3cr3t@HOST", "tls: the"],
    ["https://me:s3cr3t@HOST", "tls: the"],
    ["nats://me:s3cr3t@HOST,tls://HOST", "tls: the"],
  ] as const) {
    const name = line === "tls: the" ? "is sent nothing in clear" : "is silent";
    test(`the server ${name}, ${list}`, async () => {
      await using server = await startNatsServer();
      let sent = "";
      const intercept: Intercept = async (data, from) => {
        if (from === "server") return data;
        sent += data;
      };
      await using relay = await startRelay(server.port, intercept);
      const url = list.replaceAll("HOST", relay.url.replace("nats://", ""));
      assertFailure(await example.run(url), line);
      assert.equal(sent === "", line === "tls: the");
    });
  }

  // What is there already: a stream, and settings of its consumer.
  for (const [what, stream, settings] of [
    ["a stream with a limit", { ...events, max_msgs: 100 }],
    ["a stream with more", { ...events, subjects: ["events.>", "more"] }],
    ["a stream with a part", { name: "PART", subjects: ["events.*"] }],
    ["a consumer without acks", events, { ack_policy: AckPolicy.None }],
    ["a push consumer", events, { deliver_subject: "pushed" }],
  ] as const) {
    test(`${what} is there, and stays as it is`, async () => {
      await using server = await startNatsServer();
      await using admin = await connectAdmin(server);
      const { streams, consumers } = admin.jsm;
      await streams.add({ ...stream, subjects: [...stream.subjects] });
      await admin.js.publish("events.kept");
      if (settings) await consumers.add("EVENTS", { ...consumer, ...settings });
      const state = async () => [
        (await streams.list().next()).map((s) => [s.config, s.state]),
        (await consumers.list(stream.name).next()).map((c) => c.config),
      ];
      const before = await state();
      const add = settings
        ? consumers.add("EVENTS", consumer)
        : streams.add(events);
      // nats-server 2.9 names the setting.
      const refusal = await add.catch((err: Error) => err.message);
      const line = String(refusal).replace(/.+(?= can not be updated)/, "…");
      assertFailure(await example.run(server.url), line);
      assert.deepEqual(await state(), before);
    });
  }
});
