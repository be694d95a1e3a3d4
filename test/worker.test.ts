import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { AckPolicy, type JetStreamManager } from "nats";
import {
  connectAdmin,
  freePort,
  startNatsServer,
  stateOf,
  untilItWaits,
  type NatsServer,
} from "./support/nats-server.ts";
import {
  example,
  run,
  start,
  temporaryProject,
  until,
  type Program,
} from "./support/program.ts";
import { startRelay } from "./support/relay.ts";

const worker = "node --import tsx service/worker.ts";

/** Gives a worker when it waits for messages; if it never does, ends it. */
async function whenIdle<T extends Program>(server: NatsServer, program: T) {
  try {
    await untilItWaits(server, program, "worker");
  } catch (err) {
    await program[Symbol.asyncDispose]();
    throw err;
  }
  return program;
}

/** Starts a worker. Returns it when it waits for messages. */
async function startIdle(server: NatsServer, url = server.url) {
  return await whenIdle(server, start(worker, { url, limit: 180 }));
}

/**
 * Starts a worker with other code in `handle`, as somebody would put it there.
 * Returns it when it waits for messages; disposing of it removes its folder.
 */
async function startWith(server: NatsServer, code: string, url = server.url) {
  const text = await readFile("service/worker.ts", "utf8");
  const body = /(?<=^async function handle\(m: JsMsg\) \{\n).*?(?=^\})/ms;
  assert.match(text, body);
  const project = await temporaryProject(text.replace(body, () => code));
  const program = start(example, { url, cwd: project.path });
  return await whenIdle(server, {
    ...program,
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      project[Symbol.dispose]();
    },
  });
}

/** Publishes so many events: events.0, events.1, … */
async function publish(server: NatsServer, count: number) {
  await using admin = await connectAdmin(server);
  const numbers = Array.from({ length: count }, (_, i) => i);
  await Promise.all(numbers.map((i) => admin.js.publish(`events.${i}`)));
}

/** Gives the subjects that a program has handled so far, in that order. */
function handled({ output }: Program) {
  const lines = output.stdout.matchAll(/^handled (\S+)$/gm);
  return Array.from(lines, ([, subject]) => subject!);
}

const lines = (text: string) => text.trimEnd().split("\n");

/** Throws unless a worker ends with 1, and a last line on stderr like this. */
async function assertEnds(program: Program, says: RegExp) {
  const { code, stderr } = await program.ended;
  assert.match(lines(stderr).at(-1)!, says);
  assert.equal(code, 1);
}

/** Returns when a worker has acked all that the stream holds. */
async function untilAllAcked(server: NatsServer, program: Program) {
  const acked = async () => (await stateOf(server, "worker")).unacked === 0;
  await until("all is acked", acked, program);
}

/**
 * Publishes 400 events a second, each until it is stored. `watch` notes what a
 * worker handles. `finish` stops publishing, and returns when all is handled:
 * how often each was handled, in the order of the first time, and how many were
 * handled for the first time later than 20 s after they were stored.
 */
async function startLoad(server: NatsServer) {
  const admin = await connectAdmin(server);
  const storedAt = new Map<string, number>();
  const delays = new Map<string, number>();
  const pending = new Set<Promise<void>>();
  const times = new Map<string, number>();
  let stopped = false;

  async function store(subject: string) {
    while (!admin.nc.isClosed()) {
      const at = performance.now();
      const options = { msgID: subject };
      const ack = await admin.js
        .publish(subject, "", options)
        .catch(() => null);
      if (ack) return storedAt.set(subject, at);
      await pause(100);
    }
  }
  async function publishAll() {
    for (let i = 0; !stopped; i++) {
      const job = store(`events.${i}`).then(() => void pending.delete(job));
      pending.add(job);
      if (i % 4 === 0) await pause(10);
    }
    await Promise.all(pending);
  }
  const publishing = publishAll();
  return {
    count: () => delays.size,
    watch(program: Program) {
      let rest = "";
      program.onStdout((text) => {
        const complete = (rest + text).split("\n");
        rest = complete.pop()!;
        for (const line of complete) {
          const subject = line.replace("handled ", "");
          times.set(subject, (times.get(subject) ?? 0) + 1);
          const at = storedAt.get(subject) ?? performance.now();
          delays.set(subject, delays.get(subject) ?? performance.now() - at);
        }
      });
    },
    async finish(program: Program) {
      stopped = true;
      await publishing;
      const done = () => delays.size === storedAt.size;
      await until("all is handled", done, program);
      const late = [...delays.values()].filter((ms) => ms > 20_000).length;
      return { times: [...times.values()], late };
    },
    async [Symbol.asyncDispose]() {
      stopped = true;
      await admin.nc.close();
    },
  };
}

describe("service/worker.ts", { concurrency: 10 }, () => {
  test("outlives a server that is stopped, killed, and away", async () => {
    await using server = await startNatsServer();
    await using program = await startIdle(server);
    await using load = await startLoad(server);
    load.watch(program);
    const handlesMore = async () => {
      const enough = load.count() + 300;
      await until("it goes on", () => load.count() > enough, program);
    };
    await handlesMore();
    for (const { signal, away } of [
      { signal: "SIGTERM", away: 0 },
      { signal: "SIGKILL", away: 0 },
      // After 20 s, a client with the default settings would give up.
      { signal: "SIGTERM", away: 25_000 },
    ] as const) {
      await server.stop(signal);
      await pause(away);
      await server.restart();
      await handlesMore();
    }
    const { times, late } = await load.finish(program);
    assert.ok(late < 50, `${late} late`);
    assert.ok(times.length > 2_000, `only ${times.length}`);
    // Each of the three outages may lose acks that the server had not stored.
    assert.ok(Math.max(...times) <= 4, "one was handled more than four times");
    const recent = times.slice(-100).filter((count) => count > 1);
    assert.deepEqual(recent, [], "after the outages, each is handled once");
    const at = `127.0.0.1:${server.port}`;
    const outage = [`disconnect: ${at}`, `reconnect: ${at}`];
    const said = lines(program.output.stderr);
    assert.deepEqual(said, [...outage, ...outage, ...outage]);
    program.kill("SIGTERM");
    assert.equal((await program.ended).code, 0);
  });

  test("can be restarted under load, two in turn", async () => {
    await using server = await startNatsServer();
    await using load = await startLoad(server);
    let older = start(worker, { url: server.url });
    let newer = start(worker, { url: server.url });
    try {
      load.watch(older);
      load.watch(newer);
      for (let i = 0; i < 6; i++) {
        const enough = load.count() + 300;
        const goOn = () => load.count() > enough && handled(older).length > 0;
        await until("they go on", goOn, newer);
        older.kill("SIGTERM");
        const { code, stderr } = await older.ended;
        assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
        older = newer;
        newer = start(worker, { url: server.url });
        load.watch(newer);
      }
      const { times, late } = await load.finish(newer);
      const twice = times.filter((count) => count > 1).length;
      assert.ok(twice === 0 && late < 20, `${twice} twice, ${late} late`);
    } finally {
      await older[Symbol.asyncDispose]();
      await newer[Symbol.asyncDispose]();
    }
  });

  test("handles at once what is published after a short break", async () => {
    await using server = await startNatsServer();
    await using relay = await startRelay(server.port);
    await using program = await startIdle(server, relay.url);
    relay.cut("for a moment");
    const isBack = () => program.output.stderr.includes("\nreconnect: ");
    await until("it is back", isBack, program);
    await publish(server, 300);
    const publishedAt = performance.now();
    const all = () => handled(program).length === 300;
    await until("all is handled", all, program);
    const seconds = (performance.now() - publishedAt) / 1_000;
    assert.ok(seconds < 5, `it took ${seconds} s`);
    await untilAllAcked(server, program);
  });

  test("goes on when JetStream is back later than its server", async () => {
    await using server = await startNatsServer();
    await using program = await startIdle(server);
    await server.restart("");
    const isBack = () => program.output.stderr.includes("\nreconnect: ");
    await until("it is connected", isBack, program);
    await server.restart();
    await publish(server, 1);
    const publishedAt = performance.now();
    await untilAllAcked(server, program);
    const seconds = (performance.now() - publishedAt) / 1_000;
    assert.ok(seconds < 20, `it took ${seconds} s`);
  });

  test("leaves a dead connection, and sees a deletion after it", async () => {
    await using server = await startNatsServer();
    await using relay = await startRelay(server.port);
    const slow = "console.log(m.subject); await pause(3_000);";
    await using program = await startWith(server, slow, relay.url);
    relay.goDead();
    const deadAt = performance.now();
    const notices = () => program.output.stderr.includes("disconnect: ");
    await until("it notices", notices, program);
    const seconds = (performance.now() - deadAt) / 1_000;
    assert.ok(seconds < 12, `it took ${seconds} s`);
    const isBack = () => program.output.stderr.includes("reconnect: ");
    await until("it is back", isBack, program);
    // While all handlers are busy, no request waits that the server could refuse.
    await publish(server, 400);
    await until("it is busy", () => program.output.stdout !== "", program);
    await using admin = await connectAdmin(server);
    await admin.jsm.consumers.delete("EVENTS", "worker");
    const deletedAt = performance.now();
    await assertEnds(program, /^ended: consumer_not_found$/);
    const later = (performance.now() - deletedAt) / 1_000;
    assert.ok(later < 30, `it took ${later} s`);
  });

  for (const { what, act, says } of [
    {
      what: "its consumer is deleted",
      act: (_: NatsServer, jsm: JetStreamManager) =>
        jsm.consumers.delete("EVENTS", "worker"),
      says: /^ended: consumer_deleted$/,
    },
    {
      what: "the stream is deleted",
      act: (_: NatsServer, jsm: JetStreamManager) =>
        jsm.streams.delete("EVENTS"),
      says: /^ended: consumer_deleted$/,
    },
    {
      what: "its server comes back without its data",
      act: (server: NatsServer) =>
        server.restart(`-js -sd ${server.folder}/empty`),
      says: /^ended: stream_not_found$/,
    },
    {
      what: "its server comes back and demands a login",
      act: (server: NatsServer) =>
        server.restart("-js --user me --pass secret"),
      says: /^ended: 'Authorization Violation'$/,
    },
  ]) {
    test(`ends when ${what}`, async () => {
      await using server = await startNatsServer();
      await using program = await startIdle(server);
      await using admin = await connectAdmin(server);
      await act(server, admin.jsm);
      await assertEnds(program, says);
    });
  }

  test("ends with one line when it may not ack", async () => {
    const server_ = "-c test/support/logins/ack-denied.conf";
    await using server = await startNatsServer(server_);
    await using program = await startIdle(server);
    await publish(server, 100);
    await assertEnds(program, /^ended: not permitted: \$JS\.ACK\.EVENTS\./);
    assert.equal(lines(program.output.stderr).length, 1);
  });

  test("does not take over a consumer with other settings", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    const { streams, consumers } = admin.jsm;
    await streams.add({ name: "EVENTS", subjects: ["events.>"] });
    const settings = { durable_name: "worker", ack_policy: AckPolicy.None };
    await consumers.add("EVENTS", settings);
    const { code, stderr } = await run(worker, { url: server.url });
    assert.equal(code, 1);
    assert.match(stderr, /consumer already exists|can not be updated/);
  });

  test("handles fifty at once, not more", async () => {
    await using server = await startNatsServer();
    await using program = await startWith(
      server,
      `console.log("begin");
      await pause(1_000);
      console.log("end");`,
    );
    await publish(server, 130);
    await untilAllAcked(server, program);
    let [inWork, most] = [0, 0];
    for (const line of lines(program.output.stdout)) {
      inWork += line === "begin" ? 1 : -1;
      most = Math.max(most, inWork);
    }
    assert.equal(most, 50);
  });

  test("tries again what fails, each time later", async () => {
    await using server = await startNatsServer();
    await using program = await startWith(
      server,
      `const tries = m.info.deliveryCount;
      console.log("try", m.subject, Date.now());
      if (m.subject === "events.0" && tries < 3) throw new Error("no");
      if (m.subject === "events.1" && tries < 2) throw undefined;
      if (m.subject === "events.2" && tries < 2) return Promise.reject("no");`,
    );
    await publish(server, 20);
    await untilAllAcked(server, program);
    const tries = (subject: string) =>
      lines(program.output.stdout)
        .map((line) => line.split(" "))
        .filter((words) => words[1] === subject)
        .map((words) => Number(words[2]));
    const [first, second, third, ...more] = tries("events.0");
    assert.deepEqual(more, []);
    const delays = [second! - first!, third! - second!];
    assert.ok(delays[0]! > 1_900 && delays[0]! < 3_500, `${delays}`);
    assert.ok(delays[1]! > 3_900 && delays[1]! < 7_000, `${delays}`);
    assert.equal(tries("events.1").length, 2);
    assert.equal(tries("events.2").length, 2);
    for (let i = 3; i < 20; i++) {
      const [at, ...again] = tries(`events.${i}`);
      assert.deepEqual(again, []);
      assert.ok(at! < second!, "the others go on meanwhile");
    }
    assert.match(program.output.stderr, /^events\.0, try 1: Error: no$/m);
    assert.match(program.output.stderr, /^events\.0, try 2: Error: no$/m);
  });

  test("goes on, and stops, when handlers never end", async () => {
    await using server = await startNatsServer();
    await using program = await startWith(
      server,
      `const number = Number(m.subject.split(".")[1]);
      if (number < 40) return new Promise<void>(() => setInterval(() => {}));
      console.log(\`handled \${m.subject}\`);`,
    );
    await publish(server, 300);
    const others = () => handled(program).length >= 260;
    await until("the others are handled", others, program);
    const fails = () => program.output.stderr.includes("deadline exceeded");
    await until("the first are over the limit", fails, program);
    program.kill("SIGTERM");
    const stoppedAt = performance.now();
    assert.equal((await program.ended).code, 0);
    const seconds = (performance.now() - stoppedAt) / 1_000;
    assert.ok(seconds < 12, `it took ${seconds} s`);
    const { unacked } = await stateOf(server, "worker");
    assert.equal(unacked, 40);
  });

  test("finishes its work on SIGTERM, also if that comes twice", async () => {
    await using server = await startNatsServer();
    await using program = await startWith(
      server,
      `console.log("begin");
      await pause(2_000);
      console.log(\`handled \${m.subject}\`);`,
    );
    await publish(server, 3);
    const begun = () => program.output.stdout === "begin\n".repeat(3);
    await until("it is at work", begun, program);
    program.kill("SIGTERM");
    // The first signal has to arrive before the second one, and the event.
    await pause(500);
    program.kill("SIGTERM");
    await using admin = await connectAdmin(server);
    await admin.js.publish("events.late");
    const { code, stderr } = await program.ended;
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.equal(handled(program).length, 3);
    const state = await stateOf(server, "worker");
    assert.deepEqual(state, { stored: 4, unacked: 1 });
  });

  for (const { what, act } of [
    { what: "gone", act: (server: NatsServer) => server.stop("SIGKILL") },
    { what: "frozen", act: (server: NatsServer) => server.freeze() },
  ]) {
    test(`ends with 1 on SIGTERM when the server is ${what}`, async () => {
      await using server = await startNatsServer();
      await using program = await startIdle(server);
      await act(server);
      program.kill("SIGTERM");
      const stoppedAt = performance.now();
      await assertEnds(program, /^ended: no connection to the server$/);
      const seconds = (performance.now() - stoppedAt) / 1_000;
      assert.ok(seconds < 5, `it took ${seconds} s`);
    });
  }

  test("ends on SIGTERM before it is connected", async () => {
    await using server = await startNatsServer();
    let hasCalled = false;
    await using relay = await startRelay(server.port, async () => {
      hasCalled = true;
    });
    await using program = start(worker, { url: relay.url });
    await until("the server is silent", () => hasCalled, program);
    program.kill("SIGTERM");
    assert.equal((await program.ended).code, "SIGTERM");
  });

  test("does not wait for a server that is not there", async () => {
    const url = `127.0.0.1:${await freePort()}`;
    const { code, stderr } = await run(worker, { url });
    assert.equal(code, 1);
    assert.match(stderr, /CONNECTION_REFUSED/);
  });

  test("gets what src/main.ts publishes, which reads its ten, too", async () => {
    await using server = await startNatsServer();
    await using program = await startIdle(server);
    const { code, stdout } = await run(example, { url: server.url });
    assert.deepEqual([code, lines(stdout).length], [0, 10]);
    await untilAllAcked(server, program);
    assert.equal(handled(program).length, 10);
    await using admin = await connectAdmin(server);
    const { config } = await admin.jsm.consumers.info("EVENTS", "worker");
    assert.equal(config.durable_name, "worker", "it is kept between runs");
  });
});
