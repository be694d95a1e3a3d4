import assert from "node:assert/strict";
import { createServer } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { AckPolicy, nanos } from "nats";
import { assertSuccess, example } from "./support/example.ts";
import { freePort } from "./support/free-port.ts";
import { connectAdmin, stateOf } from "./support/jetstream.ts";
import { untilAllAcked, untilPullsWait } from "./support/jetstream.ts";
import { startNatsServer, type NatsServer } from "./support/nats-server.ts";
import { run, start, until, type Program } from "./support/program.ts";
import { startRelay } from "./support/relay.ts";
import { tls, trust } from "./support/tls.ts";

const worker = "node --import tsx service/worker.ts";
const publisher = "node --import tsx service/publisher.ts";
const events = { name: "EVENTS", subjects: ["events.>"] };
const consumer = { durable_name: "worker", ack_policy: AckPolicy.Explicit };

/** Gives the subjects that a worker has handled so far, in that order. */
function handled(program: Program) {
  const lines = program.output().stdout.matchAll(/^handled (\S+)$/gm);
  return Array.from(lines, ([, subject]) => subject!);
}

/** Gives the lines that a program has printed on stderr so far. */
function errors(program: Program) {
  return program.output().stderr.trimEnd().split("\n");
}

/** Starts a worker, and returns when all its fifty requests wait. */
async function startIdleWorker(server: NatsServer) {
  const program = start(worker, { url: server.url });
  try {
    await untilPullsWait(server, program, { name: "worker", count: 50 });
  } catch (err) {
    await program[Symbol.asyncDispose]();
    throw err;
  }
  return program;
}

/** Publishes an event for each payload; the subjects are events.0, events.1, … */
async function publish(server: NatsServer, payloads: (string | number)[]) {
  await using admin = await connectAdmin(server);
  for (const [i, payload] of payloads.entries())
    await admin.js.publish(`events.${i}`, `${payload}`);
}

describe("service/", { concurrency: 8 }, () => {
  test("worker and publisher go on after outages", async () => {
    await using server = await startNatsServer();
    await server.stop();
    await using working = start(worker, { url: server.url });
    await using publishing = start(publisher, { url: server.url });
    const waits = (program: Program) =>
      program.output().stderr.includes("cannot connect: CONNECTION_REFUSED");
    await until("the worker waits", () => waits(working), working);
    await until("the publisher waits", () => waits(publishing), publishing);

    const untilHandled = async (count: number) => {
      const has = () => new Set(handled(working)).size >= count;
      await until(`${count} events are handled`, has, working);
      return new Set(handled(working)).size;
    };
    await server.restart();
    const first = await untilHandled(200);
    // Under load, JetStream ends before the server does.
    await server.stop("SIGTERM");
    await pause(1_000);
    await server.restart();
    const second = await untilHandled(first + 200);
    // What a frozen server has in its socket, it stores later.
    await server.freeze();
    await pause(7_000);
    server.thaw();
    const third = await untilHandled(second + 200);
    // After 20 s, a client with the default settings would give up.
    await server.stop("SIGKILL");
    await pause(22_000);
    await server.restart();
    const fourth = await untilHandled(third + 200);
    await untilHandled(fourth + 100);

    publishing.kill("SIGTERM");
    const { code, stdout } = await publishing.ended;
    assert.equal(code, 0);
    const { stored } = await stateOf(server);
    assert.equal(stdout, `stored ${stored} events\n`);
    await untilAllAcked(server, working, "worker");
    working.kill("SIGTERM");
    assert.equal((await working.ended).code, 0);
    const repeated = errors(working).filter((line) =>
      line.startsWith("cannot"),
    );
    assert.equal(new Set(repeated).size, repeated.length, "once a minute");
    const times = new Map<string, number>();
    for (const subject of handled(working))
      times.set(subject, (times.get(subject) ?? 0) + 1);
    assert.equal(times.size, stored, "each is handled");
    // Each of the three outages may lose acks that the server had not stored.
    const often = [...times].filter(([, count]) => count > 4);
    assert.deepEqual(often, []);
    const late = [...times].slice(-100).filter(([, count]) => count > 1);
    assert.deepEqual(late, [], "after the outages, each is handled once");
  });

  for (const { what, settings } of [
    { what: "creates the stream", settings: null },
    { what: "keeps the stream's settings", settings: { max_msgs: 100_000 } },
  ]) {
    test(`a publisher without a worker ${what}`, async () => {
      await using server = await startNatsServer();
      await using admin = await connectAdmin(server);
      if (settings) await admin.jsm.streams.add({ ...events, ...settings });
      await using program = start(publisher, { url: server.url });
      const count = async () => (await stateOf(server)).stored;
      await until("20 are stored", async () => (await count()) > 20, program);
      program.kill("SIGTERM");
      const stdout = (await program.ended).stdout;
      assert.equal(stdout, `stored ${await count()} events\n`);
      const { config } = await admin.jsm.streams.info("EVENTS");
      assert.equal(config.max_msgs, settings?.max_msgs ?? -1);
    });
  }

  test("a worker waits for JetStream", async () => {
    await using server = await startNatsServer([]);
    await using program = start(worker, { url: server.url });
    const says = () =>
      errors(program).includes("cannot find the consumer: 503");
    await until("the worker waits", says, program);
    await server.restart(["-js"]);
    await untilPullsWait(server, program, { name: "worker", count: 50 });
    await publish(server, [50]);
    await untilAllAcked(server, program, "worker");
    assert.deepEqual(handled(program), ["events.0"]);
  });

  for (const { what, payloads } of [
    { what: "all wait", payloads: [] },
    { what: "all work", payloads: Array<number>(50).fill(60_000) },
  ]) {
    test(`a worker ends if its consumer is deleted while ${what}`, async () => {
      await using server = await startNatsServer();
      await using program = await startIdleWorker(server);
      await publish(server, payloads);
      await using admin = await connectAdmin(server);
      const inWork = async () => {
        const info = await admin.jsm.consumers.info("EVENTS", "worker");
        return info.num_ack_pending === payloads.length;
      };
      await until(what, inWork, program);
      const deletedAt = performance.now();
      await admin.jsm.consumers.delete("EVENTS", "worker");
      const { code } = await program.ended;
      const seconds = (performance.now() - deletedAt) / 1_000;
      assert.equal(errors(program).at(-1), "ended: consumer not found");
      assert.equal(code, 1);
      assert.ok(seconds < 8, `it took ${seconds} s`);
    });
  }

  test("a worker ends if its login is refused, then or later", async () => {
    await using server = await startNatsServer([
      "-js",
      "--user",
      "me",
      "--pass",
      "pw",
    ]);
    const outcome = await run(worker, { url: server.url });
    const stderr = "ended: 'Authorization Violation'\n";
    assert.deepEqual(outcome, { code: 1, stdout: "", stderr });
    await server.restart(["-js"]);
    await using program = await startIdleWorker(server);
    await server.restart(["-js", "--user", "me", "--pass", "pw"]);
    const { code } = await program.ended;
    assert.equal(errors(program).at(-1), "ended: 'Authorization Violation'");
    assert.equal(code, 1);
  });

  test("a worker ends if NATS_URL is no URL, and does not print it", async () => {
    const url = "nats://me:s3cr3t@no-server:65536";
    const outcome = await run(worker, { url });
    assert.deepEqual(outcome, {
      code: 1,
      stdout: "",
      stderr: "ended: Invalid URL\n",
    });
  });

  test("a worker waits for a silent server 5 s at a time", async () => {
    await using server = await startNatsServer();
    let connectedAt = 0;
    await using relay = await startRelay(server.port, async (data, from) => {
      if (from === "server") return data;
      connectedAt = performance.now();
    });
    await using program = start(worker, { url: relay.url });
    const says = () => errors(program).includes("cannot connect: TIMEOUT");
    await until("it says so", says, program);
    const seconds = (performance.now() - connectedAt) / 1_000;
    // A busy machine sees late that the client has connected.
    assert.ok(seconds > 3 && seconds < 8, `it waited for ${seconds} s`);
  });

  for (const command of [worker, publisher]) {
    test(`SIGTERM before it is connected: ${command}`, async () => {
      const url = `127.0.0.1:${await freePort()}`;
      await using program = start(command, { url });
      await until("it waits", () => !!program.output().stderr, program);
      program.kill("SIGTERM");
      assert.equal((await program.ended).code, 0);
    });
  }

  test("a worker finishes its work on SIGTERM, and begins no more", async () => {
    await using server = await startNatsServer();
    await using program = await startIdleWorker(server);
    await publish(server, [3_000, 3_000, 3_000]);
    await using admin = await connectAdmin(server);
    const info = () => admin.jsm.consumers.info("EVENTS", "worker");
    const inWork = async () => (await info()).num_ack_pending === 3;
    await until("three are in work", inWork, program);
    program.kill("SIGTERM");
    // The signal has to arrive before these events.
    await pause(500);
    for (let i = 0; i < 5; i++) await admin.js.publish("events.late", "50");
    const { code, stderr } = await program.ended;
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    const subjects = ["events.0", "events.1", "events.2"];
    assert.deepEqual(handled(program).sort(), subjects);
    assert.deepEqual(await stateOf(server, "worker"), {
      stored: 8,
      unacked: 5,
    });
  });

  for (const { what, act } of [
    { what: "gone", act: (server: NatsServer) => server.stop("SIGKILL") },
    { what: "frozen", act: (server: NatsServer) => server.freeze() },
  ]) {
    test(`SIGTERM to a worker whose server is ${what}`, async () => {
      await using server = await startNatsServer();
      await using program = await startIdleWorker(server);
      await act(server);
      program.kill("SIGTERM");
      const sentAt = performance.now();
      const { code } = await program.ended;
      const seconds = (performance.now() - sentAt) / 1_000;
      const line = "ended: the server is away";
      assert.equal(errors(program).at(-1), line);
      assert.equal(code, 1);
      assert.ok(seconds < 7, `it took ${seconds} s`);
    });
  }

  test("a worker tries again after 30 s what has failed", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    await admin.jsm.streams.add(events);
    // So that it is the worker that asks for it, not the end of `ack_wait`.
    const settings = { ...consumer, ack_wait: nanos(120_000) };
    await admin.jsm.consumers.add("EVENTS", settings);
    await using program = await startIdleWorker(server);
    await publish(server, ["fail", 50]);
    const failures = () =>
      errors(program).filter((line) =>
        line.startsWith("message 1, events.0: Error"),
      );
    await until("it has failed", () => failures().length > 0, program);
    const failedAt = performance.now();
    await until("it has failed again", () => failures().length > 1, program);
    const seconds = (performance.now() - failedAt) / 1_000;
    assert.ok(seconds > 29 && seconds < 35, `again after ${seconds} s`);
    assert.deepEqual(
      handled(program),
      ["events.1"],
      "the other one is handled",
    );
  });

  test("a worker gives up after twenty deliveries, not before", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    await admin.jsm.streams.add(events);
    await admin.jsm.consumers.add("EVENTS", consumer);
    const reader = await admin.js.consumers.get("EVENTS", "worker");
    for (const times of [20, 19]) {
      await admin.js.publish(`events.${times}`, "50");
      for (let i = 1; i <= times; i++) {
        const m = await reader.next();
        assert.equal(m?.info.deliveryCount, i);
        // The first one must not come again while the second one is read.
        m.nak(i === times ? 2_000 : 0);
      }
    }
    await using program = start(worker, { url: server.url });
    await untilAllAcked(server, program, "worker");
    program.kill("SIGTERM");
    assert.deepEqual(await program.ended, {
      code: 0,
      stdout: "handled events.19\n",
      stderr: "gave up message 1, events.20\n",
    });
  });

  test("what takes longer than `ack_wait` is not redelivered", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    const { consumers, streams } = admin.jsm;
    await streams.add(events);
    const settings = { ...consumer, ack_wait: nanos(2_000) };
    await consumers.add("EVENTS", settings);
    await using program = await startIdleWorker(server);
    await publish(server, [7_000]);
    await untilAllAcked(server, program, "worker");
    const info = await consumers.info("EVENTS", "worker");
    assert.equal(info.delivered.consumer_seq, 1, "how often it was delivered");
    assert.deepEqual(handled(program), ["events.0"]);
    assert.equal(info.config.ack_wait, nanos(2_000), "the setting is kept");
  });

  test("src/main.ts beside a worker prints its ten lines", async () => {
    await using server = await startNatsServer();
    await using program = await startIdleWorker(server);
    assertSuccess(await run(example, { url: server.url }));
    await untilAllAcked(server, program, "worker");
    assert.equal(handled(program).length, 10, "the worker has them, too");
  });

  test("fifty messages are in work at once", async () => {
    await using server = await startNatsServer();
    await using program = await startIdleWorker(server);
    await publish(server, Array<number>(120).fill(60_000));
    await using admin = await connectAdmin(server);
    const counts = async () => {
      const info = await admin.jsm.consumers.info("EVENTS", "worker");
      return [info.num_ack_pending, info.num_pending].join();
    };
    const isBusy = async () => (await counts()) === "50,70";
    await until("fifty are in work, seventy wait", isBusy, program);
    await publish(server, [50]);
    assert.equal(await counts(), "50,71");
  });

  test("a worker says once a minute that it may not ack", async () => {
    const args = ["-c", "test/support/ack-denied.conf"];
    await using server = await startNatsServer(args);
    await using program = await startIdleWorker(server);
    await publish(server, [50, 50, 50]);
    const isDone = () =>
      handled(program).length === 3 && errors(program).length > 1;
    await until("three are handled", isDone, program);
    program.kill("SIGTERM");
    const { code } = await program.ended;
    const denied = "Permissions Violation for Publish to";
    const [first, second, ...others] = errors(program).sort();
    assert.match(first!, /^PERMISSIONS_VIOLATION \$JS\.ACK\.EVENTS\.worker\./);
    assert.match(
      second!,
      new RegExp(`^no ack of message \\d: '${denied} "\\$JS`),
    );
    assert.deepEqual(others, []);
    assert.equal(code, 0);
  });

  test("a worker exits with 1 if an ack was not confirmed", async () => {
    await using server = await startNatsServer();
    await using program = await startIdleWorker(server);
    await publish(server, [1_500]);
    await using admin = await connectAdmin(server);
    const inWork = async () => {
      const info = await admin.jsm.consumers.info("EVENTS", "worker");
      return info.num_ack_pending === 1;
    };
    await until("one is in work", inWork, program);
    // While it is handled, the server is away. It is back before the end.
    await server.stop();
    program.kill("SIGTERM");
    await until("it is handled", () => handled(program).length === 1, program);
    await server.restart();
    const { code } = await program.ended;
    const last = "ended: the server did not confirm an ack";
    assert.match(program.output().stderr, /^no ack of message 1: /m);
    assert.equal(errors(program).at(-1), last);
    assert.equal(code, 1);
  });

  test("a worker says once when its connection is lost and back", async () => {
    await using server = await startNatsServer();
    await using program = await startIdleWorker(server);
    await server.stop();
    // Its port is open, but hangs up: the client reconnects again and again.
    let attempts = 0;
    const knocks = createServer((socket) => {
      attempts++;
      socket.destroy();
    });
    knocks.listen(server.port, "127.0.0.1");
    await until("it has tried three times", () => attempts >= 3, program);
    knocks.close();
    await server.restart();
    await untilPullsWait(server, program, { name: "worker", count: 50 });
    const at = `127.0.0.1:${server.port}`;
    const said = errors(program).filter((line) => !line.startsWith("cannot"));
    assert.deepEqual(said, [`disconnect: ${at}`, `reconnect: ${at}`]);
  });

  test("a worker leaves a connection that has gone dead", async () => {
    await using server = await startNatsServer();
    await using relay = await startRelay(server.port, async (data) => data);
    await using program = start(worker, { url: relay.url });
    await untilPullsWait(server, program, { name: "worker", count: 50 });
    relay.goDead();
    const at = `127.0.0.1:${relay.port}`;
    const isBack = () => errors(program).includes(`reconnect: ${at}`);
    await until("it reconnects", isBack, program);
    await publish(server, [50]);
    await until("it is handled", () => handled(program).length > 0, program);
  });

  const login = ["--user", "m@e", "--pass", "4:2%@/s"];
  for (const { url, args, env } of [
    { url: " 127.0.0.1:PORT , nats://127.0.0.1:1", args: [] },
    { url: "127.0.0.1:1,m%40e:4%3A2%25%40%2Fs@127.0.0.1:PORT", args: login },
    { url: "nats://s3%3Acr%40t@127.0.0.1:PORT", args: ["--auth", "s3:cr@t"] },
    { url: "tls://localhost:PORT", args: tls("localhost"), env: trust("ca") },
  ]) {
    test(`a worker connects to "${url}"`, async () => {
      await using server = await startNatsServer(["-js", ...args]);
      const address = url.replace("PORT", `${server.port}`);
      await using program = start(worker, { url: address, env });
      const isRunning = () =>
        run("npm run -s state EVENTS", { url: address, env });
      await until(
        "it waits for messages",
        async () => (await isRunning()).stdout.endsWith("(num_waiting): 50\n"),
        program,
      );
      assert.equal(program.output().stderr, "");
    });
  }

  test("a worker sends no password in clear where TLS is asked for", async () => {
    await using server = await startNatsServer();
    let sent = "";
    await using relay = await startRelay(server.port, async (data, from) => {
      if (from === "client") sent += data;
      return data;
    });
    const url = `tls://me:s3cr3t@127.0.0.1:${relay.port}`;
    await using program = start(worker, { url });
    const says = () => errors(program).includes("cannot connect: tls");
    await until("it waits for TLS", says, program);
    assert.equal(sent, "");
  });
});
