import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { connect as connectTcp } from "node:net";
import { dirname, join, resolve } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { createServer as createTlsServer } from "node:tls";
import { AckPolicy, connect, type JetStreamManager } from "nats";
import {
  connectAdmin,
  freePort,
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
  temporaryFolder,
  tenLines,
  until,
  type Program,
} from "./support/program.ts";
import { startRelay } from "./support/relay.ts";

const main = await readFile("src/main.ts", "utf8");
const numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const docs = readdirSync("docs").map((name) => `docs/${name}`);
const guides = ["README.md", ...docs];

// The code of the guides that a reader would paste into src/main.ts: blocks, and
// options between backquotes. At the end, all have to be among those that were
// run. What is an option of Compose or of the server stands here.
const code = new Set<string>();
const others =
  /^(restart|stop_grace_period|allow_non_tls|terminationGrace\w+):/;
for (const guide of guides) {
  const text = await readFile(guide, "utf8");
  for (const [, block] of text.matchAll(/^```ts\n(.*?)^```/gms))
    code.add(block);
  for (const [, option] of text.matchAll(/`([a-z]\w*: [^`…]+)`/g))
    if (!others.test(option)) code.add(option);
}
const used = new Set<string>();

/** Gives the one block that has some words in it, and marks it as run. */
function block(words: string) {
  const isMeant = (text: string) => text.endsWith("\n") && text.includes(words);
  const found = [...code].filter(isMeant);
  assert.equal(found.length, 1, `in ${found.length} blocks: ${words}`);
  used.add(found[0]);
  return found[0];
}

/** Gives an option that a guide names, with a comma, and marks it as run. */
function option(text: string) {
  assert.ok(code.has(text), `in no guide: ${text}`);
  used.add(text);
  return `${text},\n`;
}

/** Gives the one part of src/main.ts that begins and ends with some words. */
function part(from: string, to: string) {
  const [, rest = "", ...more] = main.split(from);
  const end = rest.indexOf(to);
  if (end < 0 || more.length > 0)
    throw new Error(
      `src/main.ts has no single part from "${from}" to "${to}". Correct the ` +
        "words in test/docs.test.ts, and look what the guides call this part.",
    );
  return from + rest.slice(0, end) + to;
}

// What the guides call the parts of src/main.ts.
const imports = part("import {", "\n");
const connecting = part("const nc = ", "\n");
const managing = part("const jsm = ", "\n");
const access = part("const js = ", "\n");
const addStream = part("await jsm.streams.add(", ");\n");
const subjects = part('subjects: ["events.>', '"]');
used.add(subjects);
const addConsumer = part("await jsm.consumers.add(", ");\n");
const policy = part("ack_policy:", ",\n");
const publishing = part("for (let i", "\n}\n");
const getting = part("const consumer = ", "\n");
const reading = part("const messages = ", "\n}\n");
const printing = part("  const payload", "payload}`);\n");
const acking = part("  await m.ackAck();", "\n");
const closing = part("await nc.close();", "\n");

/** Replaces a part of a program. */
function replace(program: string, part: string, by: string) {
  assert.ok(program.includes(part), `no longer there: ${part}`);
  return program.replace(part, () => by);
}

const silent = replace(main, publishing, "");

/** Puts options that a guide names where it says: into the consumer, the stream. */
const intoConsumer = (text: string, program = main) =>
  replace(program, policy, policy + option(text));
const intoStream = (text: string) =>
  replace(main, subjects, `${subjects}, ${option(text)}`);

/** Makes a project in a temporary folder, with the packages of this one. */
async function project(program: string, type = "module") {
  const folder = await temporaryFolder();
  const inFolder = (name: string) => join(folder.path, name);
  await mkdir(inFolder("src"));
  await writeFile(inFolder("src/main.ts"), program);
  await writeFile(inFolder("package.json"), JSON.stringify({ type }));
  await symlink(resolve("node_modules"), inFolder("node_modules"));
  return folder;
}

/** Makes a project of a changed src/main.ts, and checks its types. */
async function changed(program: string) {
  const classes = "AckPolicy, DeliverPolicy, RetentionPolicy, type JsMsg";
  const logins = "credsAuthenticator, nkeyAuthenticator";
  const names = `${classes}, ${logins}, connect, delay, headers, nanos`;
  const all = `import { ${names} } from "nats";\n`;
  const folder = await project(replace(program, imports, all));
  const tsc = "node node_modules/typescript/bin/tsc";
  const flags = "--noEmit --strict --skipLibCheck --module nodenext";
  const command = `${tsc} ${flags} --types node src/main.ts`;
  const { code, stdout } = await run(command, { cwd: folder.path });
  assert.equal(code, 0, stdout);
  return folder;
}

/** Runs a changed src/main.ts. Gives how it ended. */
async function runChanged(program: string, url: string, env = {}) {
  using folder = await changed(program);
  return await run(example, { url, cwd: folder.path, env, limit: 90 });
}

/** Runs a changed src/main.ts. Throws unless it succeeds with these lines. */
async function assertPrints(
  lines: string[],
  ...args: Parameters<typeof runChanged>
) {
  assertSuccess(await runChanged(...args), lines);
}

const events = { name: "EVENTS", subjects: ["events.>"] };

/** Publishes a message for each subject, and adds the stream if need be. */
async function publish(server: NatsServer, subjects: string[]) {
  await using admin = await connectAdmin(server);
  await admin.jsm.streams.add(events);
  await Promise.all(
    subjects.map((subject) => admin.js.publish(subject, "old")),
  );
}

const orders = numbers.map((i) => `events.orders.${i}`);
const old = (subject: string) =>
  `got message on subject ${subject} with payload "old"`;
const readAll = () => replace(silent, reading, block("process.exitCode"));

// A recipe: what its blocks make of src/main.ts, what was published before, the
// lines that it then prints, how many messages are stored, and up to which
// number all is acked.
const recipes = [
  {
    name: "JSON, with a filter",
    program: () => {
      const filtered = intoConsumer('filter_subject: "events.orders.*"');
      const json = replace(filtered, publishing, block("JSON.stringify"));
      return replace(json, printing, block("m.json<{ id"));
    },
    before: ["events.other"],
    prints: numbers.map((i) => `order ${i}: 9.5`),
    stored: 11,
    ackedTo: 11,
  },
  {
    name: "binary data",
    program: () => {
      const line = part("  await js.publish(", "\n");
      const sends = replace(main, line, block("new Uint8Array"));
      return replace(sends, printing, block("m.data.length"));
    },
    prints: numbers.map((i) => `events.${i} 3 ${i}`),
  },
  {
    name: "headers",
    program: () => {
      const sends = replace(main, publishing, block("h.set"));
      return replace(sends, printing, block("m.headers"));
    },
    prints: numbers.map((i) => `events.${i} abc`),
  },
  {
    name: "only new ones",
    program: () => intoConsumer("deliver_policy: DeliverPolicy.New"),
    before: ["events.old"],
    prints: tenLines,
    stored: 11,
    ackedTo: 11,
  },
  {
    name: "from a number on",
    program: () =>
      intoConsumer(
        "deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: 3",
      ),
    before: ["events.old", "events.old", "events.third"],
    prints: [old("events.third"), ...tenLines.slice(0, 9)],
    stored: 13,
    ackedTo: 12,
  },
  {
    name: "a batch",
    program: () => replace(main, reading, block("batch.push")),
    prints: ["events.0,events.1,events.2,events.3,events.4"],
    ackedTo: 5,
  },
  {
    name: "how many wait",
    program: () =>
      replace(silent, getting, getting + block("} not delivered, $")),
    before: Array<string>(10).fill("events.old"),
    prints: [
      "10 not delivered, 0 not acked",
      ...Array<string>(10).fill(old("events.old")),
    ],
  },
  {
    name: "all that is there",
    program: readAll,
    before: Array<string>(210).fill("events.old"),
    prints: Array<string>(210).fill("events.old old"),
    stored: 210,
    ackedTo: 210,
  },
  {
    name: "give up with term",
    program: () => {
      const terminating = block("m.term").replace('=== ""', '=== "old"');
      return replace(main, acking, terminating + acking);
    },
    before: ["events.never"],
    prints: [old("events.never"), ...tenLines.slice(0, 9)],
    stored: 11,
    ackedTo: 10,
  },
  {
    name: "delete acked messages",
    program: () => intoStream("retention: RetentionPolicy.Workqueue"),
    prints: tenLines,
    stored: 0,
  },
];

// The recipe for running all day, with some code in `work`, and with further
// options of its consumer, by default a short time until it is sent again.
const patient = block("connect({ servers, maxReconnectAttempts");
assert.ok(patient.includes(option("maxReconnectAttempts: -1").slice(0, -2)));
const allDay = block("async function work");
function runAllDay(work = "", options = "ack_wait: nanos(4_000),\n") {
  let program = silent.replaceAll('"consumer"', '"w"');
  program = replace(program, connecting, patient);
  program = replace(program, policy, policy + options);
  const end = program.indexOf(reading);
  const logs = "  console.log(m.subject, m.string());\n";
  return program.slice(0, end) + replace(allDay, logs, logs + work);
}

/**
 * Starts a program that runs all day. Gives it when so many of its kind, by
 * default one, wait for messages.
 */
async function startAllDay(server: NatsServer, code: string, copies = 1) {
  using folder = await changed(code);
  // It has read its file when it waits.
  const options = { url: server.url, cwd: folder.path, limit: 150 };
  const program = start(example, options);
  await untilItWaits(server, program, "w", copies);
  return program;
}

/** Returns when a program that runs all day has all messages acked. */
async function untilAllAcked(server: NatsServer, program: Program) {
  await using admin = await connectAdmin(server);
  const areAcked = async () => {
    const { state } = await admin.jsm.streams.info("EVENTS");
    const { ack_floor } = await admin.jsm.consumers.info("EVENTS", "w");
    return ack_floor.stream_seq === state.last_seq;
  };
  // A message that is lost on its way comes again after `ack_wait`.
  await until("all is acked", areAcked, program);
}

/** Returns when a program has printed so many lines. Gives them. */
async function untilPrinted(program: Program, count: number) {
  const enough = () => linesOf(program.output).length >= count;
  await until(`${count} lines`, enough, program);
  return linesOf(program.output);
}

describe("README.md and the guides", { concurrency: 8 }, () => {
  test("run all day: outlives its server, and src/main.ts beside it", async () => {
    await using server = await startNatsServer();
    await using program = await startAllDay(server, runAllDay());
    assertSuccess(await run(example, { url: server.url }));
    await untilAllAcked(server, program);
    // After 20 s, a client with the default settings would give up.
    for (const away of [0, 25_000]) {
      await server.crash();
      await pause(away);
      await server.restart();
      await publish(server, orders);
      await untilAllAcked(server, program);
    }
    program.kill("SIGTERM");
    const { code, stdout } = await program.ended;
    assert.equal(code, 0);
    const printed = new Set(stdout.split("\n"));
    for (const i of numbers) {
      assert.ok(printed.has(`events.${i} data`), stdout);
      assert.ok(printed.has(`events.orders.${i} old`), stdout);
    }
  });

  test("run all day: longer work is not sent again", async () => {
    // Without `working`, the other copy would get it after 20 s.
    const wait = "ack_wait: nanos(20_000),\n";
    const code = runAllDay("await delay(25_000);\n", wait);
    const working = replace(code, "    await work(m);\n", block("m.working"));
    await using server = await startNatsServer();
    await using first = await startAllDay(server, working);
    await using second = await startAllDay(server, working, 2);
    await publish(server, ["events.long"]);
    await untilAllAcked(server, first);
    const lines: string[] = [];
    for (const program of [first, second]) program.kill("SIGTERM");
    for (const program of [first, second]) {
      const outcome = await program.ended;
      assertSuccess(outcome, linesOf(outcome));
      lines.push(...linesOf(outcome));
    }
    assert.deepEqual(lines, ["events.long old"]);
  });

  for (const away of [25_000, 0]) {
    const what = away ? "the server is away for 25 s" : "an answer is lost";
    test(`recipe: publish through an outage: ${what}`, async () => {
      await using server = await startNatsServer();
      const act = async () => {
        relay.cut("for a moment");
        if (!away) return;
        await server.crash();
        await pause(away);
        await server.restart();
      };
      const answer = /"EVENTS", *"seq"/;
      await using relay = await startRelay(server.port, "server", answer, act);
      const patience = replace(main, connecting, patient);
      const code = replace(patience, publishing, block("msgID"));
      await assertPrints(tenLines, code, relay.url);
      assert.deepEqual(await stateOf(server), { stored: 10, ackedTo: 10 });
      assert.ok(relay.hasActed);
    });
  }

  test("recipe: survive the loss of a server", async () => {
    const routes = [await freePort(), await freePort(), await freePort()];
    const all = routes.map((port) => `nats://127.0.0.1:${port}`).join();
    const member = (i: number) => {
      const cluster = `--cluster_name c -cluster nats://127.0.0.1:${routes[i]}`;
      return startNatsServer(`-js -n ${i} ${cluster} -routes ${all}`);
    };
    await using first = await member(0);
    await using second = await member(1);
    await using third = await member(2);
    const url = [first, second, third].map((server) => server.url).join();
    const code = intoStream("num_replicas: 3");
    // It takes the servers some seconds until they can store three copies, and
    // until they have a new leader.
    await using admin = await connectAdmin(second, 5_000);
    const { streams, consumers } = admin.jsm;
    const add = () => streams.add({ ...events, num_replicas: 3 });
    await until("three copies can be stored", add, undefined, 90);
    await assertPrints(tenLines, code, url);
    await first.crash();
    const areThere = async () => {
      const { state } = await streams.info("EVENTS");
      const { ack_floor } = await consumers.info("EVENTS", "consumer");
      return state.messages === 10 && ack_floor.stream_seq === 10;
    };
    await until("messages and acks are there", areThere, undefined, 90);
  });

  const logins = "test/support/logins";
  const pem = `${logins}/localhost.pem`;
  const tls = `-js --tls --tlscert ${pem} --tlskey ${pem}`;
  const ca = `${logins}/ca.pem`;
  const trust = { NODE_EXTRA_CA_CERTS: resolve(ca) };
  for (const { words, server: args, env } of [
    {
      words: "certFile: NATS_CERT",
      server: `${tls} --tlsverify --tlscacert ${ca}`,
      env: { NATS_CERT: resolve(pem), NATS_KEY: resolve(pem), ...trust },
    },
    {
      words: "pass: NATS_PASSWORD",
      server: "-js --user m@e --pass s:3/cr@t,%",
      env: { NATS_USER: "m@e", NATS_PASSWORD: "s:3/cr@t,%" },
    },
    {
      words: "token: NATS_TOKEN",
      server: "-js --auth s3:cr@t",
      env: { NATS_TOKEN: "s3:cr@t" },
    },
    {
      words: "nkeyAuthenticator",
      server: `-c ${logins}/nkey.conf`,
      env: { NATS_NKEY: resolve(`${logins}/nkey.seed`) },
    },
    {
      words: "credsAuthenticator",
      server: `-c ${logins}/credentials.conf`,
      env: { NATS_CREDS: resolve(`${logins}/credentials.creds`) },
    },
    {
      words: "caFile: NATS_CA",
      server: tls,
      env: { NATS_CA: resolve(ca) },
    },
  ]) {
    test(`docs/connect.md: ${words}`, async () => {
      await using server = await startNatsServer(args);
      const url = `localhost:${server.port}`;
      const refusal = await run(example, { url, env });
      assert.equal(refusal.code, 1, "the server lets everybody in");
      const code = replace(main, connecting, block(words));
      await assertPrints(tenLines, code, url, env);
    });
  }

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    test(`run all day: ${signal} while idle`, async () => {
      await using server = await startNatsServer();
      await using program = await startAllDay(server, runAllDay());
      program.kill(signal);
      assertSuccess(await program.ended, []);
    });
  }

  test("run all day: SIGTERM while at work, twice", async () => {
    const work = `await delay(10_000);\nconsole.log("done");\n`;
    await using server = await startNatsServer();
    await using program = await startAllDay(server, runAllDay(work, ""));
    await publish(server, ["events.first", "events.second"]);
    await untilPrinted(program, 1);
    program.killGroup("SIGTERM");
    await pause(500);
    program.killGroup("SIGTERM");
    assertSuccess(await program.ended, ["events.first old", "done"]);
    assert.deepEqual(await stateOf(server, "w"), { stored: 2, ackedTo: 1 });
  });

  for (const { what, act, says } of [
    {
      what: "its consumer is deleted",
      act: (_: NatsServer, jsm: JetStreamManager) =>
        jsm.consumers.delete("EVENTS", "w"),
      says: /consumer deleted|consumer not found/,
    },
    {
      what: "its server comes back without JetStream",
      act: (server: NatsServer) => server.restart(""),
      says: /no responders/,
    },
    {
      what: "its server comes back and demands a login",
      act: (server: NatsServer) => server.restart("-js --user a --pass b"),
      says: /CONNECTION_CLOSED|Authorization Violation/,
    },
  ]) {
    test(`run all day: ends with 1 when ${what}`, async () => {
      await using server = await startNatsServer();
      await using program = await startAllDay(server, runAllDay());
      await using admin = await connectAdmin(server);
      await act(server, admin.jsm);
      const { code, stderr } = await program.ended;
      assert.equal(code, 1);
      assert.match(stderr, says);
    });
  }

  test("run all day: tries again what fails, after 2 s, then 4 s", async () => {
    const work = `console.log(m.subject, performance.now());
      if (m.subject === "events.bad" && m.info.deliveryCount < 3)
        throw new Error("no");\n`;
    await using server = await startNatsServer();
    await using program = await startAllDay(server, runAllDay(work, ""));
    await publish(server, ["events.bad", ...orders]);
    await untilAllAcked(server, program);
    const lines = await untilPrinted(program, 26);
    const tries = lines.filter((line) => /^events\.bad \d/.test(line));
    const times = tries.map((line) => Number(line.split(" ")[1]));
    assert.equal(times.length, 3);
    // It would also come again by itself, after 30 s.
    for (const [i, least] of [1_900, 3_900].entries()) {
      const ms = times[i + 1] - times[i];
      assert.ok(ms > least && ms < 25_000, `after ${ms} ms`);
    }
    assert.equal(lines.at(-1), tries[2], "the others go on meanwhile");
    const says = () =>
      program.output.stderr.split("events.bad Error: no").length;
    await until("each failure is printed", () => says() === 3, program);
  });

  test("run all day: two copies share the messages", async () => {
    await using server = await startNatsServer();
    const code = runAllDay("await delay(20);\n", "");
    await using first = await startAllDay(server, code);
    await using second = await startAllDay(server, code, 2);
    await publish(server, [...orders, ...orders, ...orders]);
    await untilAllAcked(server, first);
    const counts = () =>
      [first, second].map(({ output }) => linesOf(output).length);
    const all = () => counts()[0] + counts()[1] === 30;
    await until("each is printed once", all, first);
    assert.ok(!counts().includes(0), `${counts()}`);
  });

  test("run all day: another copy gets what a killed one left", async () => {
    await using server = await startNatsServer();
    const slow = runAllDay("await delay(600_000);\n");
    await using first = await startAllDay(server, slow);
    await publish(server, ["events.slow"]);
    await untilPrinted(first, 1);
    first.kill("SIGKILL");
    await using second = await startAllDay(server, runAllDay());
    await untilAllAcked(server, second);
    await untilPrinted(second, 1);
  });

  test("run all day: gives up after three tries, and tells", async () => {
    const three = option("max_deliver: 3");
    const failing = runAllDay('throw new Error("no");\n', three);
    const code = replace(failing, addStream, addStream + block('"GIVEN_UP",'));
    await using server = await startNatsServer();
    await using program = await startAllDay(server, code);
    await publish(server, [...orders, "events.bad"]);
    await using admin = await connectAdmin(server);
    const areTold = async () => {
      const { state } = await admin.jsm.streams.info("GIVEN_UP");
      return state.messages === 11;
    };
    await until("it has given up", areTold, program);
    assert.equal((await untilPrinted(program, 33)).length, 33);
    const all = part("const consumer = ", "\n}\n");
    const told = replace(silent, all, block("advisories.fetch"));
    const lines = Array.from({ length: 11 }, (_, i) => `${i + 1}`);
    const outcome = await runChanged(told, server.url);
    assertSuccess(outcome, linesOf(outcome));
    assert.deepEqual(linesOf(outcome).sort(), lines.sort());
  });

  for (const { name, program, before, prints, ...holds } of recipes) {
    test(`recipe: ${name}`, async () => {
      await using server = await startNatsServer();
      if (before) await publish(server, before);
      await assertPrints(prints, program(), server.url);
      const { stored = 10, ackedTo = 10 } = holds;
      assert.deepEqual(await stateOf(server), { stored, ackedTo });
    });
  }

  test("recipe: number and time", async () => {
    await using server = await startNatsServer();
    const startedAt = Date.now();
    const code = replace(main, printing, block("timestampNanos"));
    const outcome = await runChanged(code, server.url);
    const lines = linesOf(outcome);
    assertSuccess(outcome, lines);
    assert.equal(lines.length, 10);
    for (const [i, line] of lines.entries()) {
      const [number, time, subject] = line.split(" ");
      assert.deepEqual([number, subject], [`${i + 1}`, `events.${i}`]);
      const at = Date.parse(time);
      assert.ok(at >= startedAt - 1 && at <= Date.now() + 1, time);
    }
  });

  test("recipe: from a time on", async () => {
    const time = 'opt_start_time: "2026-01-31T08:00:00Z"';
    const from = `deliver_policy: DeliverPolicy.StartTime, ${time}`;
    await using server = await startNatsServer();
    await publish(server, ["events.older"]);
    await pause(10);
    const between = new Date().toISOString();
    await pause(10);
    await publish(server, ["events.old"]);
    const options = option(from).replace(/2026[^"]*/, between);
    const code = replace(main, policy, policy + options);
    const lines = [old("events.old"), ...tenLines.slice(0, 9)];
    await assertPrints(lines, code, server.url);
  });

  test("recipe: all that is there, when a run has left something", async () => {
    await using server = await startNatsServer();
    await publish(server, orders);
    await using admin = await connectAdmin(server);
    const config = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };
    await admin.jsm.consumers.add("EVENTS", config);
    const consumer = await admin.js.consumers.get("EVENTS", "consumer");
    using folder = await changed(readAll());
    const job = () => run(example, { url: server.url, cwd: folder.path });
    const left = await consumer.next({ expires: 30_000 });
    const lines = orders.map((order) => `${order} old`);
    const early = await job();
    assert.deepEqual([early.code, linesOf(early)], [1, lines.slice(1)]);
    left?.nak();
    assertSuccess(await job(), lines.slice(0, 1));
  });

  test("recipe: change what exists, and remove it", async () => {
    await using server = await startNatsServer();
    assertSuccess(await run(example, { url: server.url }));
    const week = intoStream("max_age: nanos(7 * 86_400_000)");
    const code = intoConsumer("ack_wait: nanos(120_000)", week);
    const { stderr } = await runChanged(code, server.url);
    assert.match(stderr, /already in use/);
    const once = replace(code, access, access + block("streams.update"));
    await assertPrints(tenLines, once, server.url);
    await assertPrints(tenLines, code, server.url);
    await using admin = await connectAdmin(server);
    const { config } = await admin.jsm.consumers.info("EVENTS", "consumer");
    assert.equal(config.ack_wait, 120_000_000_000);
    const removal = 'await jsm.streams.delete("EVENTS");';
    assert.ok((await readFile("docs/recipes.md", "utf8")).includes(removal));
    const removing = replace(code, closing, `${removal}\n${closing}`);
    await assertPrints(tenLines, removing, server.url);
    assert.deepEqual(await admin.jsm.streams.list().next(), []);
  });

  test("recipe: CommonJS", async () => {
    const guide = await readFile("docs/recipes.md", "utf8");
    for (const words of ["async function main() { … }", "void main();"])
      assert.ok(guide.includes(`\`${words}\``), words);
    const body = replace(main, imports, "");
    const code = `${imports}async function main() {${body}}\nvoid main();\n`;
    await using server = await startNatsServer();
    using folder = await project(code, "commonjs");
    assertSuccess(await run(example, { url: server.url, cwd: folder.path }));
  });

  test("docs/connect.md: tls: {}", async () => {
    option("tls: {}");
    const code = replace(main, connecting, block("tls: {} }"));
    await using server = await startNatsServer(tls);
    await assertPrints(tenLines, code, `localhost:${server.port}`, trust);
    await using plain = await startNatsServer();
    const { stderr } = await runChanged(code, plain.url, trust);
    assert.match(stderr, /NatsError: tls/);
  });

  test("docs/troubleshooting.md: a proxy that ends TLS", async () => {
    const conf = "-c test/support/logins/behind-proxy.conf";
    await using server = await startNatsServer(conf);
    const file = readFileSync(pem);
    await using proxy = createTlsServer({ cert: file, key: file }, (client) => {
      const plain = connectTcp(server.port, "127.0.0.1");
      client.on("error", () => plain.destroy());
      plain.on("error", () => client.destroy());
      client.pipe(plain).pipe(client);
    });
    const port = await freePort();
    await once(proxy.listen(port, "127.0.0.1"), "listening");
    const first = option("tls: { handshakeFirst: true }");
    const code = replace(main, "{ servers }", `{ servers, ${first} }`);
    await assertPrints(tenLines, code, `localhost:${port}`, trust);
  });

  test("docs/troubleshooting.md: a consumer that others have created", async () => {
    await using server = await startNatsServer(
      "-c test/support/logins/reader.conf",
    );
    assertSuccess(await run(example, { url: server.url }));
    await publish(server, orders);
    const login = 'user: "reader", pass: "reader"';
    const prefix = option('inboxPrefix: "_INBOX_me"');
    const options = `{ servers, ${login}, ${prefix} }`;
    let code = replace(main, "{ servers }", options);
    for (const part of [managing, addStream, addConsumer, publishing])
      code = replace(code, part, "");
    await assertPrints(orders.map(old), code, server.url);
  });

  test("all links lead somewhere", () => {
    for (const guide of guides) {
      const text = readFileSync(guide, "utf8");
      for (const [, link] of text.matchAll(/\]\(([^)]+)\)/g)) {
        if (link.startsWith("https://")) continue;
        const [path, anchor] = link.split("#");
        const target = path ? join(dirname(guide), path) : guide;
        assert.ok(existsSync(target), `${link} leads to no file`);
        if (!anchor) continue;
        const titles = readFileSync(target, "utf8").matchAll(/^#+ (.*)$/gm);
        // As GitHub makes them.
        const anchors = Array.from(titles, ([, title]) =>
          title
            .toLowerCase()
            .replace(/[^\w -]/g, "")
            .replaceAll(" ", "-"),
        );
        assert.ok(anchors.includes(anchor), `${link} leads to no heading`);
      }
    }
  });

  const demo = `node --import tsx ${resolve("scripts/demo.ts")}`;
  const isServers = (name: string) => name.startsWith("nats");

  test("npm run demo prints the ten lines, and leaves nothing", async () => {
    using folder = await temporaryFolder();
    const env = { TMPDIR: folder.path };
    assertSuccess(await run("npm run -s demo", { env }));
    assert.deepEqual(readdirSync(folder.path).filter(isServers), []);
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`npm run demo leaves nothing when it gets ${signal}`, async () => {
      const waits =
        "console.log(process.env.NATS_URL); setInterval(() => {}, 1_000);";
      using folder = await project(waits);
      const { path: cwd } = folder;
      await using program = start(demo, { cwd, env: { TMPDIR: cwd } });
      const [servers] = await untilPrinted(program, 1);
      // Ctrl-C in a terminal goes to the example, too; `kill` to the demo alone.
      if (signal === "SIGINT") program.killGroup(signal);
      else program.kill(signal);
      assert.notEqual((await program.ended).code, 0);
      // A server that was killed just now may still take a connection.
      const isGone = () =>
        connect({ servers }).then(
          (nc) => nc.close().then(() => false),
          (err) => err.code === "CONNECTION_REFUSED",
        );
      await until("its server is gone", isGone);
      assert.deepEqual(readdirSync(cwd).filter(isServers), []);
    });
  }

  test("npm run demo ends with the exit code of src/main.ts", async () => {
    using folder = await project("process.exit(7);");
    assert.equal((await run(demo, { cwd: folder.path })).code, 7);
  });

  after(() => {
    if (process.execArgv.some((arg) => arg.includes("test-name-pattern")))
      return;
    const unknown = [...code].filter((text) => !used.has(text));
    assert.deepEqual(unknown, [], "code of the guides that no test has run");
  });
});
