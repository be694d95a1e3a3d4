import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { AckPolicy } from "nats";
import { startNatsServer, type NatsServer } from "../scripts/nats-server.ts";
import { makeCertificates } from "./support/certificates.ts";
import {
  assertAllAcked,
  assertLines,
  comesAgain,
  manage,
  runExample,
  tenLines,
  until,
  type Outcome,
} from "./support/example.ts";
import { startRelay, type Gate } from "./support/relay.ts";

const all = "0123456789";
const dead = "nats://127.0.0.1:1";
const events = { name: "EVENTS", subjects: ["events.>"] };
const consumer = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };
const login = ["--user", "me", "--pass", "s3cr3t"];
const tls = makeCertificates();

const denied = "'Authorization Violation'";
const gone =
  "503: no JetStream (try nats-server -js), or stream or consumer is gone";
const invalid = "Invalid URL: NATS_URL has to look like nats://localhost:4222";
const refused =
  /^CONNECTION_REFUSED: connect ECONNREFUSED (127.0.0.1|::1):\d+\n$/;
const timeout =
  "TIMEOUT: no answer within 5 s, what was asked may have been done";

const seen: string[] = [];

/** Throws unless a run failed as it should: one line on stderr, exit code 1. */
function assertFails(
  { code, stdout, stderr }: Outcome,
  line: string | RegExp,
  printed: string[] = [],
) {
  if (typeof line === "string") assert.equal(stderr, `${line}\n`);
  else assert.match(stderr, line);
  assert.doesNotMatch(stderr, /s3cr3t|31337/);
  assert.deepEqual(stdout.split("\n"), [...printed, ""]);
  assert.equal(code, 1);
  seen.push(stderr);
}

/** Returns when a request for messages waits at the server, or the run ended. */
async function isWaiting(server: NatsServer, run?: Promise<Outcome>) {
  await using own = await manage(server);
  const state = () => own.consumer().catch(() => null);
  await until(async () => !!(await state())?.num_waiting, run);
}

/**
 * Starts the example where another reader of the consumer is given its events,
 * and returns when it waits for more.
 */
async function startWaiting(server: NatsServer) {
  const own = await manage(server);
  await own.jsm.streams.add(events);
  await own.jsm.consumers.add("EVENTS", consumer);
  const other = await own.js.consumers.get("EVENTS", "consumer");
  const taken = await other.fetch({ max_messages: 10 });
  const done = (async () => {
    for await (const m of taken) m.ack();
  })();
  await isWaiting(server);
  const run = runExample(server.url);
  await done;
  await isWaiting(server, run);
  return { ...own, run };
}

// What it waits for the server for, in this order, and the line with which a
// break of the connection ends it then.
const steps = [
  ["connects", timeout],
  ["asks for JetStream", timeout],
  ["adds the stream", timeout],
  ["adds the consumer", timeout],
  ["publishes", timeout],
  ["looks the consumer up", timeout],
  ["waits for messages", refused],
  ["waits for its acks to arrive", "DISCONNECT"],
] as const;

describe("src/main.ts", { concurrency: 20 }, () => {
  for (const end of ["close", "cut"] as const)
    for (const lost of ["request", "answer"])
      for (const [index, [step, line]] of steps.entries()) {
        const reads = step === "waits for messages";
        const acks = step === "waits for its acks to arrive";
        const survives = reads && end === "cut";
        const result = survives ? "goes on" : "ends with one line";
        const time = end === "cut" ? "for a moment" : "for good";
        const when = `as it ${step}, with the ${lost}`;
        test(`${result} when cut off ${time} ${when}`, async () => {
          const from = lost === "request" ? "client" : "server";
          await using server = await startNatsServer();
          let cutAt = 0;
          const gate: Gate = async (piece, relay) => {
            const now = piece.turn === index + 1 && piece.from === from;
            if (cutAt || !now) return piece.data;
            cutAt = performance.now();
            relay[end]();
            if (!reads) return;
            await using own = await manage(server);
            await own.hurry();
          };
          await using relay = await startRelay(server.port, gate);
          const outcome = await runExample(relay.url);
          if (survives) assertLines(outcome);
          else assertFails(outcome, line, acks ? tenLines : []);
          const seconds = (outcome.at - cutAt) / 1_000;
          assert.ok(seconds < (reads ? 30 : 7), `${seconds} s`);
          const stored = index > 4 || (index === 4 && lost === "answer");
          const acked = survives || (acks && lost === "answer");
          if (acked) await assertAllAcked(server, 10);
          else assert.equal(await comesAgain(server), stored ? all : "");
        });
      }

  test("counts what comes again when cut off between two events", async () => {
    await using server = await startNatsServer();
    await using own = await manage(server);
    let state = "whole";
    const gate: Gate = async ({ from, data }, relay) => {
      const rest = data.indexOf("MSG events.4");
      if (state === "whole" && rest >= 0) {
        state = "breaking";
        return data.slice(0, rest);
      }
      if (state !== "breaking") return data;
      if (from === "server") return;
      // These are the acks of the first four.
      state = "mended";
      relay.cut();
      await own.hurry();
    };
    await using relay = await startRelay(server.port, gate);
    const lines = [...tenLines.slice(0, 4), ...tenLines.slice(0, 6)];
    assertLines(await runExample(relay.url), lines);
    assert.equal(await comesAgain(server), "6789");
  });

  test("leaves its messages to the next run when killed before it acks", async () => {
    await using server = await startNatsServer();
    await using relay = await startRelay(server.port, ({ turn, data }) => {
      if (turn < 8) return data;
      run.child.kill("SIGKILL");
    });
    const run = runExample(relay.url);
    assert.equal((await run).code, null);
    assert.equal(await comesAgain(server), all);
  });

  test("ends well when the consumer is made anew before the acks", async () => {
    await using server = await startNatsServer();
    await using own = await manage(server);
    let madeAt = 0;
    const gate: Gate = async ({ turn, data }) => {
      if (turn < 8 || madeAt) return data;
      madeAt = performance.now();
      await own.jsm.consumers.delete("EVENTS", "consumer");
      await own.jsm.consumers.add("EVENTS", consumer);
      return data;
    };
    await using relay = await startRelay(server.port, gate);
    const outcome = await runExample(relay.url);
    assertLines(outcome);
    assert.ok(outcome.at - madeAt < 10_000);
    // The new one has seen no ack.
    assert.equal(await comesAgain(server), all);
  });

  for (const what of ["consumer", "stream"]) {
    test(`ends with one line when the ${what} is deleted meanwhile`, async () => {
      await using server = await startNatsServer();
      await using waiting = await startWaiting(server);
      const { consumers, streams } = waiting.jsm;
      if (what === "consumer") await consumers.delete("EVENTS", "consumer");
      else await streams.delete("EVENTS");
      assertFails(await waiting.run, "consumer deleted");
    });
  }

  test("goes on when the server is killed and comes back meanwhile", async () => {
    await using server = await startNatsServer();
    await using waiting = await startWaiting(server);
    await waiting.jsm.streams.purge("EVENTS");
    await server.stop("SIGKILL");
    const same = ["-p", `${server.port}`, "-sd", server.store];
    await using again = await startNatsServer(["-js", ...same]);
    await isWaiting(again, waiting.run);
    await using own = await manage(again);
    for (const i of all) await own.js.publish(`events.${i}`, "data");
    assertLines(await waiting.run);
    await assertAllAcked(again, 10);
  });

  test("ends with one line when it comes back with a password", async () => {
    await using server = await startNatsServer();
    await using waiting = await startWaiting(server);
    await server.stop("SIGKILL");
    await using _ = await startNatsServer(["-p", `${server.port}`, ...login]);
    assertFails(await waiting.run, denied);
  });

  for (const [url, line] of [
    [",", invalid],
    [" ", invalid],
    ["nats://", invalid],
    ["localhost:4222", invalid],
    ["no server at all", invalid],
    [`${dead},`, invalid],
    ["nats://me:s3cr3t@", invalid],
    ["nats://me:s3cr3t@no-server:65536", invalid],
    ["me:s3cr3t@127.0.0.1:1", invalid],
    ["nats://me:s3c,r3t@127.0.0.1:1", invalid],
    ["nats://me:%s3cr3t@127.0.0.1:1", "URI malformed"],
    ["nats://no-host.invalid", "getaddrinfo ENOTFOUND no-host.invalid"],
    [dead, refused],
    ["nats://localhost:1", refused],
    [`${dead},nats://127.0.0.1:2`, refused],
    ["nats://me:31337@127.0.0.1:1", refused],
    ["nats://me:s3cr3t@s3cr3t\ns3cr3t@127.0.0.1:1", refused],
  ] as const) {
    test(`ends with one line for NATS_URL=${JSON.stringify(url)}`, async () => {
      assertFails(await runExample(url), line);
    });
  }

  const noAccount = ["-c", "test/support/no-jetstream.conf"];
  const noJetStream = "503: jetstream not enabled for account";
  // From 24 on, Node adds what may help.
  const untrusted = /^unable to verify the first certificate(; .+)?\n$/;
  for (const [what, args, url, line] of [
    ["wants a password", login, "nats://127.0.0.1", denied],
    ["wants another one", login, "nats://me:s3cr3t2@127.0.0.1", denied],
    ["has no JetStream", [], "nats://127.0.0.1", gone],
    ["has none for the account", noAccount, "nats://127.0.0.1", noJetStream],
    ["has a strange certificate", tls.args, "tls://localhost", untrusted],
  ] as const) {
    test(`ends with one line when the server ${what}`, async () => {
      await using server = await startNatsServer([...args]);
      assertFails(await runExample(`${url}:${server.port}`), line);
    });
  }

  for (const [what, scheme, line] of [
    ["does not answer", "nats", timeout],
    ["has no TLS and learns nothing", "tls", "tls: the server offers none"],
  ] as const) {
    test(`ends with one line when the server ${what}`, async () => {
      await using server = await startNatsServer();
      let sent = "";
      await using relay = await startRelay(server.port, ({ from, data }) => {
        if (from === "server") return data;
        sent += data;
      });
      const url = relay.url.replace("nats://", `${scheme}://me:s3cr3t@`);
      assertFails(await runExample(url), line);
      assert.equal(sent === "", scheme === "tls");
    });
  }

  for (const [what, stream, difference] of [
    ["a stream with a limit", { ...events, max_msgs: 100 }],
    ["a stream with more", { ...events, subjects: ["events.>", "more"] }],
    ["a stream with a part", { name: "PART", subjects: ["events.*"] }],
    ["a consumer without acks", events, { ack_policy: AckPolicy.None }],
    ["a push consumer", events, { deliver_subject: "pushed" }],
  ] as const) {
    test(`ends with one line before ${what}, which stays as it is`, async () => {
      await using server = await startNatsServer();
      await using own = await manage(server);
      const { streams, consumers } = own.jsm;
      await streams.add({ ...stream, subjects: [...stream.subjects] });
      await own.js.publish("events.kept");
      if (difference) {
        await consumers.add("EVENTS", { ...consumer, ...difference });
      }
      const state = async () => [
        (await streams.list().next()).map((s) => [s.config, s.state]),
        (await consumers.list(stream.name).next()).map((c) => c.config),
      ];
      const before = await state();
      const add = difference
        ? consumers.add("EVENTS", consumer)
        : streams.add(events);
      const refusal = await add.catch((err) => err.message);
      assertFails(await runExample(server.url), refusal);
      assert.deepEqual(await state(), before);
    });
  }
});

test("the README quotes no line that was not seen here", async () => {
  const readme = await readFile("README.md", "utf8");
  const [, section] = readme.split("## When it does not run\n");
  const cells = section!.match(/^\| `.+?` +\|/gm)!.join();
  const quotes = cells.match(/`[^`]+`/g)!;
  assert.ok(quotes.length > 10);
  for (const quote of quotes) {
    const words = quote.slice(1, -1).replace(/[^\w… ]/g, "\\$&");
    const line = new RegExp(`^${words.replace("…", ".*")}\n$`);
    const found = seen.some((stderr) => line.test(stderr));
    assert.ok(found, `not seen: ${quote}`);
  }
});
