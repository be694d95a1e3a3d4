import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { AckPolicy, nanos, type JetStreamManager, type JsMsg } from "nats";
import { startNatsServer, type NatsServer } from "../scripts/nats-server.ts";
import * as example from "./support/example.ts";
import { startRelay, type Intercept, type Relay } from "./support/relay.ts";

const { assertAllAcked, assertSuccess, stateOf, tenLines, tls, trust } =
  example;
const events = { name: "EVENTS", subjects: ["events.>"] };
const consumer = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };
const ack = /PUB \$JS.ACK/g;
const login = ["--user", "me", "--pass", "s3cr3t"];

// The lines as the README quotes them: "…" stands for any words, or none.
const readme = await readFile("README.md", "utf8");
const denied = "'Authorization Violation'";
const gone =
  "503: JetStream is not enabled, or the stream or consumer was deleted";
const invalid = "Invalid URL: NATS_URL has to look like nats://localhost:4222";
const noAccount = "503: jetstream not enabled for account";
const noCipher = "…:SSL routines:…";
const noTls = "tls: the server does not offer TLS";
const otherHost = "Hostname/IP does not match certificate's altnames: …";
const refused = "CONNECTION_REFUSED: connect ECONNREFUSED …";
const selfSigned = "self-signed certificate…";
const timeout =
  "TIMEOUT: no answer within 5 s, but the request may have been carried out";
const unknown = "unable to verify the first certificate…";

/**
 * Throws unless a run failed as it should: with exit code 1 and one line, which
 * the README lists, on stderr. Takes that line and what is printed before it.
 */
function assertFailure(
  { code, stdout, stderr }: example.Outcome,
  line: string,
  printed: string[] = [],
) {
  const words = line.split("…").map((s) => s.replace(/[^\w ]/g, "\\$&"));
  assert.match(stderr, new RegExp(`^${words.join(".*")}\n$`));
  assert.ok(readme.includes(`\`${line}\``), `not in the README: ${line}`);
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
  side: "client" | "server",
  pattern: RegExp,
  act: (seen: string, relay: Relay) => ReturnType<Intercept>,
): Intercept {
  let seen = "";
  let done = false;
  return (data, from, relay) => {
    if (done || from !== side || !(seen + data).match(pattern)) return data;
    seen += data;
    done = seen.match(pattern)!.length === (pattern.global ? 10 : 1);
    if (done) return act(seen, relay);
    return side === "client" ? undefined : data;
  };
}

describe("src/main.ts", { concurrency: 20 }, () => {
  // What is lost when the connection breaks as the example …, the line, how
  // many messages are stored then, and how many of them are redelivered.
  for (const [from, step, lost, line, stored, redelivered] of [
    ["client", "connects", /CONNECT/, timeout, 0, 0],
    ["client", "asks for JetStream", /JS.API.INFO/, timeout, 0, 0],
    ["client", "adds the stream", /STREAM.CREATE/, timeout, 0, 0],
    ["client", "adds the consumer", /CONSUMER.\S*CREATE/, timeout, 0, 0],
    ["client", "publishes", /PUB events/g, timeout, 0, 0],
    ["server", "publishes", /"EVENTS", *"seq"/g, timeout, 10, 10],
    ["client", "looks the consumer up", /CONSUMER.INFO/, timeout, 10, 10],
    ["client", "waits for messages", /MSG.NEXT/, refused, 10, 10],
    ["server", "waits for messages", /MSG events/, refused, 10, 10],
    ["client", "acks", ack, timeout, 10, 10],
    ["server", "acks", /MSG _INBOX\S+ \S+ +0\r/g, timeout, 10, 0],
  ] as const) {
    const waits = step === "waits for messages";
    for (const [how, time] of [
      ["cut", "for a moment"],
      ["close", "for good"],
    ] as const) {
      const what = from === "client" ? "request" : "answer";
      test(`is cut off ${time} as it ${step}, its ${what} is lost`, async () => {
        await using server = await startNatsServer();
        let cutAt = 0;
        const intercept = interceptAll(from, lost, async (_, relay) => {
          cutAt = performance.now();
          relay[how]();
          if (!waits) return;
          await using admin = await example.connectAdmin(server);
          const soon = { ack_wait: nanos(1_000) };
          await admin.jsm.consumers.update("EVENTS", "consumer", soon);
        });
        await using relay = await startRelay(server.port, intercept);
        const outcome = await example.run(relay.url);
        const ms = performance.now() - cutAt;
        assert.ok(ms < (waits ? 30_000 : 8_000), `${ms} ms`);
        // Only a wait for messages survives a break.
        const survives = waits && how === "cut";
        if (survives) assertSuccess(outcome);
        else assertFailure(outcome, line, step === "acks" ? tenLines : []);
        const unacked = survives ? 0 : redelivered;
        assert.deepEqual(await stateOf(server), { stored, unacked });
      });
    }
  }

  for (const [what, line, stored, unacked] of [
    ["the link goes dead", timeout, 10, 10],
    ["the consumer is deleted", gone, 10, 0],
    ["the stream is deleted", gone, 0, 0],
  ] as const) {
    test(`${what} before its acks arrive`, async () => {
      await using server = await startNatsServer();
      await using admin = await example.connectAdmin(server);
      const { consumers, streams } = admin.jsm;
      let ackedAt = 0;
      const intercept = interceptAll("client", ack, async (acks, relay) => {
        ackedAt = performance.now();
        if (line === timeout) return relay.silence();
        if (stored) await consumers.delete("EVENTS", "consumer");
        else await streams.delete("EVENTS");
        return acks;
      });
      await using relay = await startRelay(server.port, intercept);
      const outcome = await example.run(relay.url);
      assert.ok(performance.now() - ackedAt < 10_000);
      assertFailure(outcome, line, tenLines);
      assert.deepEqual(await stateOf(server), { stored, unacked });
    });
  }

  test("its user may not ack", async () => {
    const args = ["-c", "test/support/ack-denied.conf"];
    await using server = await startNatsServer(args);
    const line = "'Permissions Violation for Publish to …";
    assertFailure(await example.run(server.url), line, tenLines);
    assert.deepEqual(await stateOf(server), { stored: 10, unacked: 10 });
  });

  // The example waits, since another reader is given its ten messages; then
  // something happens, and it goes on, or ends with a line.
  function testWaiting(
    what: string,
    line: string | null,
    happens: (server: NatsServer, jsm: JetStreamManager) => Promise<unknown>,
  ) {
    test(`waits for messages when ${what}`, async () => {
      await using server = await startNatsServer();
      await using admin = await example.connectAdmin(server);
      await admin.jsm.streams.add(events);
      await admin.jsm.consumers.add("EVENTS", consumer);
      const other = await admin.js.consumers.get("EVENTS", "consumer");
      const callback = (m: JsMsg) => m.ack();
      const taken = await other.consume({ max_messages: 10, callback });
      await example.untilPullWaits(server);
      const run = example.run(server.url);
      await example.until(async () => taken.getReceived() === 10, run);
      await taken.close();
      await admin.jsm.streams.purge("EVENTS");
      await example.untilPullWaits(server, run);
      await happens(server, admin.jsm);
      if (line) return assertFailure(await run, line);
      await example.untilPullWaits(server, run);
      await using again = await example.connectAdmin(server);
      for (let i = 0; i < 10; i++)
        await again.js.publish(`events.${i}`, "data");
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
  testWaiting("its server crashes, and is back", null, (server) =>
    server.restart(),
  );
  testWaiting("its server is back with a password", denied, (server) =>
    server.restart(login),
  );
  testWaiting("its server is back, empty", "stream not found", (server) =>
    server.restart(["-js", "-sd", `${server.store}/empty`]),
  );
  testWaiting("its server stalls for 45 s", null, async ({ child }) => {
    child?.kill("SIGSTOP");
    await pause(45_000);
    child?.kill("SIGCONT");
  });

  const dead = "nats://127.0.0.1:1";
  for (const [url, line] of [
    [",", invalid],
    [" ", invalid],
    ["nats://", invalid],
    ["no server at all", invalid],
    [`${dead},`, invalid],
    ["nats://me:s3cr3t@", invalid],
    ["nats://me:s3cr3t@no-server:65536", invalid],
    ["nats://me:s3c,r3t@127.0.0.1:1", invalid],
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
  for (const [what, args, line, env] of [
    ["wants another password", login, denied, {}],
    ["has no JetStream", [], gone, {}],
    ["has none for the account", conf, noAccount, {}],
    ["has an unknown certificate", tls("localhost"), unknown, {}],
    ["signed its own", tls("elsewhere"), selfSigned, {}],
    ["is another host", tls("elsewhere"), otherHost, trust("elsewhere")],
    ["wants a certificate", verify, timeout, trust("ca")],
    ["has no cipher in common", tls("localhost"), noCipher, old],
  ] as const) {
    test(`the server ${what}`, async () => {
      await using server = await startNatsServer([...args]);
      const scheme = args[0] === "--tls" ? "tls" : "nats";
      const url = `${scheme}://me:s3cr3t2@localhost:${server.port}`;
      assertFailure(await example.run(url, { env }), line);
    });
  }

  test("the server wants a password, and is given none", async () => {
    await using server = await startNatsServer(login);
    assertFailure(await example.run(server.url), denied);
  });

  for (const [list, line] of [
    ["nats://me:s3cr3t@HOST", timeout],
    ["tls://me:s3cr3t@HOST", noTls],
    ["ssl://me:s3cr3t@HOST", noTls],
    ["wss://me:s3cr3t@HOST", noTls],
    ["https://me:s3cr3t@HOST", noTls],
    ["nats://me:s3cr3t@HOST,tls://HOST", noTls],
  ] as const) {
    const name = line === noTls ? "is sent nothing in clear" : "is silent";
    test(`the server ${name}, ${list}`, async () => {
      await using server = await startNatsServer();
      let sent = "";
      const intercept: Intercept = (data, from) => {
        if (from === "server") return data;
        sent += data;
      };
      await using relay = await startRelay(server.port, intercept);
      const url = list.replaceAll("HOST", relay.url.replace("nats://", ""));
      assertFailure(await example.run(url), line);
      assert.equal(sent === "", line === noTls);
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
      await using admin = await example.connectAdmin(server);
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
