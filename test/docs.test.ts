import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { type JetStreamManager } from "nats";
import {
  connectAdmin,
  freePort,
  startNatsServer,
  stateOf,
  type NatsServer,
} from "./support/nats-server.ts";
import {
  example,
  run,
  start,
  temporaryFolder,
  temporaryProject,
  tenLines,
  until,
} from "./support/program.ts";
import { startRelay } from "./support/relay.ts";

const main = await readFile("src/main.ts", "utf8");
const numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const guides = [
  "README.md",
  "docs/connect.md",
  "docs/recipes.md",
  "docs/troubleshooting.md",
  "service/README.md",
];

// The code blocks of the guides that a reader would paste into src/main.ts, and
// the options. At the end, each block has to be among those that were run.
const blocks: string[] = [];
const options: string[] = [];
for (const guide of guides) {
  const text = await readFile(guide, "utf8");
  for (const [, block] of text.matchAll(/^```ts\n(.*?)^```/gms))
    blocks.push(block!);
  for (const [, option] of text.matchAll(/`([a-z_]+: [^`]+)`/g))
    options.push(option!);
}

/** Gives the one block that has some words in it, and marks it as run. */
function block(words: string) {
  const found = blocks.filter((block) => block.includes(words));
  assert.equal(found.length, 1, `in ${found.length} blocks: ${words}`);
  used.add(found[0]!);
  return found[0]!;
}
const used = new Set<string>();

/** Gives an option that a guide names between backquotes, with a comma. */
function option(text: string) {
  assert.ok(options.includes(text), `in no guide: ${text}`);
  return `${text},\n`;
}

// What the guides call the parts of src/main.ts.
const publishing = /^for \(let i.*?^\}\n/ms;
const printing = /^ *const payload.*?console\.log.*?\n/ms;
const acking = / *await m\.ackAck\(\);\n/;
const addStream = /^await jsm\.streams\.add\(.*?\);\n/ms;
const addConsumer = /^await jsm\.consumers\.add\(.*?\}\);\n/ms;
const get = /^const consumer = .*\n/m;
const toLoopEnd = /^const messages = .*?^\}\n/ms;
const reading = /^const consumer = .*?^\}\n/ms;
const connecting = /^const nc = .*\n/m;
const policy = /(?<=ack_policy: AckPolicy\.Explicit,\n)/;
const subjects = /(?<=subjects: \["events\.>"\])/;

/** Replaces a part of a program, or puts something above it. */
function replace(code: string, part: RegExp, by: string) {
  assert.match(code, part);
  return code.replace(part, () => by);
}
const above = (part: RegExp) => new RegExp(`(?=${part.source})`, part.flags);

/** Makes a project of a changed src/main.ts, and checks its types. */
async function project(code: string) {
  const names = [
    "AckPolicy",
    "connect",
    "credsAuthenticator",
    "delay",
    "DeliverPolicy",
    "headers",
    "nanos",
    "nkeyAuthenticator",
    "RetentionPolicy",
    "type JsMsg",
  ];
  const line = `import { ${names.join()} } from "nats";\n`;
  const complete = replace(code, /^import \{ AckPolicy.*\n/m, line);
  const folder = await temporaryProject(complete);
  const flags = "--noEmit --strict --skipLibCheck --module nodenext";
  const command = `npx tsc ${flags} --target es2022 --types node src/main.ts`;
  const { code: exit, stdout } = await run(command, { cwd: folder.path });
  assert.equal(exit, 0, stdout);
  return folder;
}

/** Runs a changed src/main.ts. Gives the lines it printed; throws if it failed. */
async function runChanged(code: string, url: string, env = {}) {
  using folder = await project(code);
  const { path: cwd } = folder;
  const outcome = await run(example, { url, cwd, env });
  assert.equal(outcome.code, 0, outcome.stderr);
  return outcome.stdout.trimEnd().split("\n");
}

/** Publishes a message for each subject, before the example runs. */
async function publishBefore(server: NatsServer, before: string[]) {
  await using admin = await connectAdmin(server);
  await admin.jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });
  for (const subject of before) await admin.js.publish(subject, "old");
}

/** Gives the consumers of EVENTS, as the server describes them. */
async function consumersOf(server: NatsServer) {
  await using admin = await connectAdmin(server);
  return await admin.jsm.consumers.list("EVENTS").next();
}

const orders = numbers.map((i) => `events.orders.${i}`);
const old = (subject: string) =>
  `got message on subject ${subject} with payload "old"`;
// A recipe: what its blocks make of src/main.ts, what was published before, the
// lines that it then prints, and how many messages are stored and not acked.
const recipes: {
  name: string;
  code: () => string;
  before?: string[];
  again?: true;
  prints: string[];
  stored?: number;
  unacked?: number;
}[] = [
  {
    name: "JSON",
    code: () => {
      const code = replace(main, publishing, block("JSON.stringify"));
      return replace(code, printing, block("m.json<{ id"));
    },
    prints: numbers.map((i) => `order ${i}: 9.5`),
  },
  {
    name: "headers",
    code: () => {
      const code = replace(main, publishing, block("h.set"));
      return replace(code, printing, block("m.headers"));
    },
    prints: numbers.map((i) => `events.${i} abc`),
  },
  {
    name: "publish many",
    code: () => replace(main, publishing, block("portion")),
    prints: tenLines,
    stored: 10_000,
    unacked: 9_990,
  },
  {
    name: "some subjects",
    code: () => {
      const filter = option('filter_subject: "events.orders.*"');
      return replace(main, policy, filter);
    },
    before: orders,
    prints: orders.map(old),
    stored: 20,
  },
  {
    name: "only new ones",
    code: () => {
      const fromNowOn = option("deliver_policy: DeliverPolicy.New");
      return replace(main, policy, fromNowOn);
    },
    before: ["events.old"],
    prints: tenLines,
    stored: 11,
  },
  {
    name: "a second reader",
    code: () => main.replaceAll('"consumer"', '"second"'),
    again: true,
    prints: tenLines,
    stored: 20,
    unacked: 10,
  },
  {
    name: "everything again",
    code: () => {
      const removal = block("jsm.consumers.delete");
      return replace(main, above(addConsumer), removal);
    },
    again: true,
    prints: tenLines,
    stored: 20,
    unacked: 10,
  },
  {
    name: "one",
    code: () => replace(main, toLoopEnd, block("consumer.next({ expires: 5")),
    prints: ["events.0 data"],
    unacked: 9,
  },
  {
    name: "a batch",
    code: () => replace(main, toLoopEnd, block("batch.push")),
    prints: ["[ 'events.0', 'events.1', 'events.2', 'events.3', 'events.4' ]"],
    unacked: 5,
  },
  {
    name: "all that is there",
    code: () => replace(main, toLoopEnd, block("num_pending")),
    before: Array<string>(200).fill("events.old"),
    prints: [
      ...Array<string>(200).fill("events.old old"),
      ...numbers.map((i) => `events.${i} data`),
    ],
    stored: 210,
  },
  {
    name: "longer work, known",
    code: () => replace(main, policy, option("ack_wait: nanos(120_000)")),
    prints: tenLines,
  },
  {
    name: "longer work, unknown",
    code: () => {
      // Without `working`, the first message would be sent again after 12 s.
      const soon = replace(main, policy, "ack_wait: nanos(12_000),\n");
      const slow = `const work = async (m: JsMsg) => {
        console.log(m.subject);
        const ms = m.subject === "events.0" ? 14_000 : 0;
        await new Promise((resolve) => setTimeout(resolve, ms));
      };\n`;
      const code = replace(soon, toLoopEnd, block("m.working"));
      return replace(code, above(get), slow);
    },
    prints: numbers.map((i) => `events.${i}`),
  },
  {
    name: "give up with term",
    code: () =>
      replace(main, acking, block("m.term")).replace('=== ""', '=== "old"'),
    before: ["events.never"],
    prints: [old("events.never"), ...tenLines.slice(0, 9)],
    stored: 11,
    unacked: 1,
  },
  {
    name: "delete old messages",
    code: () => {
      const week = option("max_age: nanos(7 * 86_400_000)");
      return replace(main, subjects, `, ${week}`);
    },
    prints: tenLines,
  },
  {
    name: "delete acked messages",
    code: () => {
      const workqueue = option("retention: RetentionPolicy.Workqueue");
      return replace(main, subjects, `, ${workqueue}`);
    },
    prints: tenLines,
    stored: 0,
  },
  {
    name: "look at messages",
    code: () => replace(main, reading, block("const reader")),
    prints: numbers.map((i) => `${i + 1} events.${i} data`),
    unacked: 10,
  },
];

describe("README.md and the guides", { concurrency: 4 }, () => {
  test("recipe: from a time on, by an ephemeral consumer", async () => {
    const added = replace(main, addConsumer, block("opt_start_time"));
    const code = replace(added, get, block('get("EVENTS", name)'));
    await using server = await startNatsServer();
    await publishBefore(server, ["events.old"]);
    const lines = await runChanged(code, server.url);
    assert.deepEqual(lines, [old("events.old"), ...tenLines.slice(0, 9)]);
    const [consumer] = await consumersOf(server);
    const from = Date.parse(consumer!.config.opt_start_time!);
    assert.ok(Math.abs(Date.now() - 3_600_000 - from) < 60_000);
    for (let seconds = 0; (await consumersOf(server)).length > 0; seconds++) {
      assert.ok(seconds < 75, "it is still there");
      await pause(1_000);
    }
  });

  for (const { name, code, before, again, prints, ...holds } of recipes) {
    test(`recipe: ${name}`, async () => {
      await using server = await startNatsServer();
      if (before) await publishBefore(server, before);
      if (again) await run(example, { url: server.url });
      const changed = code();
      assert.deepEqual(await runChanged(changed, server.url), prints);
      const { stored = 10, unacked = 0 } = holds;
      const consumer = changed.includes('"second"') ? "second" : "consumer";
      const state = await stateOf(server, consumer);
      assert.deepEqual(state, { stored, unacked });
    });
  }

  test("recipe: try again later, each time later", async () => {
    const failing = `const work = async (m: JsMsg) => {
      if (m.subject === "events.3") throw new Error("no");
    };\n`;
    const code = replace(main, acking, block("m.nak"));
    await using server = await startNatsServer();
    const changed = replace(code, above(get), failing);
    assert.deepEqual(await runChanged(changed, server.url), tenLines);
    assert.deepEqual(await stateOf(server), { stored: 10, unacked: 1 });
    await using admin = await connectAdmin(server);
    const consumer = await admin.js.consumers.get("EVENTS", "consumer");
    const startedAt = performance.now();
    const m = await consumer.next({ expires: 10_000 });
    const ms = performance.now() - startedAt;
    assert.equal(m?.info.deliveryCount, 2);
    assert.ok(ms < 2_500, `after ${ms} ms instead of 2 s`);
  });

  test("recipe: publish once, although an answer is lost", async () => {
    const code = replace(main, publishing, block("publishOnce"));
    await using server = await startNatsServer();
    let isCut = false;
    await using relay = await startRelay(server.port, async (data, from) => {
      if (isCut || from === "client" || !/"EVENTS", *"seq"/.test(data))
        return data;
      isCut = true;
      relay.cut("for a moment");
    });
    assert.deepEqual(await runChanged(code, relay.url), tenLines);
    assert.deepEqual(await stateOf(server), { stored: 10, unacked: 0 });
  });

  test("recipe: give up, and see what was given up", async () => {
    await using server = await startNatsServer();
    await using admin = await connectAdmin(server);
    const five = replace(main, policy, option("max_deliver: 5"));
    const code = replace(five, above(addConsumer), block('GIVEN_UP",'));
    await runChanged(code, server.url);
    await admin.js.publish("events.bad");
    const consumer = await admin.js.consumers.get("EVENTS", "consumer");
    for (let tries = 1; tries <= 5; tries++) {
      const m = await consumer.next({ expires: 10_000 });
      assert.equal(m?.info.deliveryCount, tries);
      m.nak();
    }
    assert.equal(await consumer.next({ expires: 1_000 }), null);
    const seen = replace(code, reading, block("advisories.fetch"));
    const lines = await runChanged(seen, server.url);
    assert.deepEqual(lines, ["gave up message 11, events.bad"]);
  });

  test("recipe: change what exists", async () => {
    await using server = await startNatsServer();
    await run(example, { url: server.url });
    const week = option("max_age: nanos(7 * 86_400_000)");
    const stream = replace(main, subjects, `, ${week}`);
    const changed = replace(stream, policy, option("ack_wait: nanos(120_000)"));
    await assert.rejects(runChanged(changed, server.url), /already in use/);
    const update = block("jsm.streams.update");
    const once = replace(changed, above(addStream), update);
    assert.deepEqual(await runChanged(once, server.url), tenLines);
    assert.deepEqual(await runChanged(changed, server.url), tenLines);
    const [consumer] = await consumersOf(server);
    assert.equal(consumer!.config.ack_wait, 120_000_000_000);
  });

  test("recipe: survive the loss of a server", async () => {
    const copies = option("num_replicas: 3");
    const code = replace(main, subjects, `, ${copies}`);
    const routes = [await freePort(), await freePort(), await freePort()];
    const all = routes.map((port) => `nats://127.0.0.1:${port}`).join();
    const args = (i: number) =>
      `-js -n ${i} --cluster_name c -cluster nats://127.0.0.1:${routes[i]} -routes ${all}`;
    await using first = await startNatsServer(args(0));
    await using second = await startNatsServer(args(1));
    await using third = await startNatsServer(args(2));
    const url = [first, second, third].map((server) => server.url).join();
    const answers = async (
      ask: (jsm: JetStreamManager) => Promise<unknown>,
    ) => {
      await using admin = await connectAdmin(second);
      const answer = await ask(admin.jsm).catch(() => null);
      return answer !== null;
    };
    // It takes the servers some seconds until they can store three copies.
    const settings = { name: "EVENTS", subjects: ["events.>"] };
    const add = () =>
      answers((jsm) => jsm.streams.add({ ...settings, num_replicas: 3 }));
    await until("three copies can be stored", add);
    assert.deepEqual(await runChanged(code, url), tenLines);
    await first.stop("SIGKILL");
    const survives = () =>
      answers(async (jsm) => {
        const { state } = await jsm.streams.info("EVENTS");
        const info = await jsm.consumers.info("EVENTS", "consumer");
        assert.deepEqual([state.messages, info.ack_floor.stream_seq], [10, 10]);
      });
    await until("messages and acks are still there", survives);
  });

  test("recipe: CommonJS", async () => {
    const [first, ...rest] = main.split(/(?<=from "nats";\n)/);
    assert.match(first!, /import/);
    const code = block("async function main").replace(/ *\/\/.*\n/, () =>
      rest.join(""),
    );
    await using server = await startNatsServer();
    using folder = await temporaryProject(code);
    await writeFile(join(folder.path, "package.json"), "{}");
    const { path: cwd } = folder;
    const { stdout, stderr } = await run(example, { url: server.url, cwd });
    assert.equal(stderr, "");
    assert.deepEqual(stdout.trimEnd().split("\n"), tenLines);
  });

  test("recipe: the newer packages", async () => {
    const guide = await readFile("docs/recipes.md", "utf8");
    const diff = /^```diff\n(.*?)^```/ms.exec(guide)![1]!;
    let code = main;
    for (const [, removed, added] of diff.matchAll(
      /((?:^-.*\n)+)((?:^\+.*\n)+)/gm,
    )) {
      const text = (lines: string) => lines.replace(/^./gm, "");
      assert.ok(code.includes(text(removed!)), removed);
      code = code.replace(text(removed!), text(added!));
    }
    using folder = await temporaryFolder();
    const { path: cwd } = folder;
    await writeFile(join(cwd, "main.ts"), code);
    await writeFile(join(cwd, "package.json"), '{ "type": "module" }');
    const packages = /`npm install (@nats-io[^`]*)`/.exec(guide)![1];
    const install = `npm install --silent --no-audit --no-fund ${packages} tsx`;
    assert.equal((await run(install, { cwd })).code, 0);
    await using server = await startNatsServer();
    const command = "node --import tsx main.ts";
    const { stdout, stderr } = await run(command, { url: server.url, cwd });
    assert.equal(stderr, "");
    assert.deepEqual(stdout.trimEnd().split("\n"), tenLines);
  });

  test("recipe: see what the client sends", async () => {
    await using server = await startNatsServer();
    const code = replace(main, connecting, block("debug: true"));
    const lines = await runChanged(code, server.url);
    const sent = lines.filter((line) => /^< H?PUB events\./.test(line));
    assert.equal(sent.length, 10);
  });

  const logins = resolve("test/support/logins");
  const pem = `${logins}/localhost.pem`;
  const tls = `-js --tls --tlscert ${pem} --tlskey ${pem}`;
  const NATS_CA = `${logins}/ca.pem`;
  for (const { words, server: args, env } of [
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
      env: { NATS_NKEY: `${logins}/nkey.seed` },
    },
    {
      words: "credsAuthenticator",
      server: `-c ${logins}/credentials.conf`,
      env: { NATS_CREDS: `${logins}/credentials.creds` },
    },
    { words: "caFile: NATS_CA", server: tls, env: { NATS_CA } },
    {
      words: "certFile: NATS_CERT",
      server: `${tls} --tlsverify --tlscacert ${NATS_CA}`,
      env: {
        NATS_CERT: pem,
        NATS_KEY: pem,
        NODE_EXTRA_CA_CERTS: NATS_CA,
      },
    },
    {
      words: "tls: {} }",
      server: tls,
      env: { NODE_EXTRA_CA_CERTS: NATS_CA },
    },
  ]) {
    test(`docs/connect.md: ${words}`, async () => {
      await using server = await startNatsServer(args);
      const url = `localhost:${server.port}`;
      const refusal = await run(example, { url });
      assert.equal(refusal.code, 1, "the server lets everybody in");
      const code = replace(main, connecting, block(words));
      assert.deepEqual(await runChanged(code, url, env), tenLines);
    });
  }

  test("docs/connect.md: `tls: {}` sends nothing in clear", async () => {
    await using server = await startNatsServer();
    let sent = "";
    await using relay = await startRelay(server.port, async (data, from) => {
      if (from === "client") sent += data;
      return data;
    });
    const code = replace(main, connecting, block("tls: {} }"));
    await assert.rejects(runChanged(code, relay.url), /NatsError: tls/);
    assert.equal(sent, "");
  });

  for (const guide of guides) {
    test(`${guide} has links that lead somewhere`, async () => {
      const text = await readFile(guide, "utf8");
      for (const [, link] of text.matchAll(/\]\(([^)]+)\)/g)) {
        if (link!.startsWith("https://")) continue;
        const [path, anchor] = link!.split("#");
        const target = path ? join(dirname(guide), path) : guide;
        assert.ok(existsSync(target), `${link} leads to no file`);
        if (!anchor) continue;
        const titles = (await readFile(target, "utf8")).matchAll(/^#+ (.*)$/gm);
        // As GitHub makes them.
        const anchors = Array.from(titles, ([, title]) =>
          title!
            .toLowerCase()
            .replace(/[^\w -]/g, "")
            .replaceAll(" ", "-"),
        );
        assert.ok(anchors.includes(anchor), `${link} leads to no heading`);
      }
    });
  }

  test("npm run demo prints the ten lines, and leaves nothing", async () => {
    using folder = await temporaryFolder();
    const env = { TMPDIR: folder.path };
    const outcome = await run("npm run -s demo", { env });
    const stdout = tenLines.map((line) => `${line}\n`).join("");
    assert.deepEqual(outcome, { code: 0, stdout, stderr: "" });
    const left = readdirSync(folder.path).filter((name) =>
      name.startsWith("nats"),
    );
    assert.deepEqual(left, []);
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`npm run demo leaves nothing when it gets ${signal}`, async () => {
      const waits = 'console.log("waits"); setInterval(() => {}, 1_000);';
      using folder = await temporaryProject(waits);
      const { path: cwd } = folder;
      const env = { TMPDIR: cwd };
      const demo = `node --import tsx ${resolve("scripts/demo.ts")}`;
      await using program = start(demo, { cwd, env });
      const waiting = () => program.output.stdout === "waits\n";
      await until("the example waits", waiting, program);
      // Ctrl-C in a terminal goes to the example, too; `kill` to the demo alone.
      if (signal === "SIGINT") program.killGroup(signal);
      else program.kill(signal);
      assert.notEqual((await program.ended).code, 0);
      const left = readdirSync(cwd).filter((name) => name.startsWith("nats"));
      assert.deepEqual(left, []);
    });
  }

  test("npm run demo ends with the exit code of src/main.ts", async () => {
    using folder = await temporaryProject("process.exit(7);");
    const demo = `node --import tsx ${resolve("scripts/demo.ts")}`;
    assert.equal((await run(demo, { cwd: folder.path })).code, 7);
  });

  const compose = spawnSync("docker", ["compose", "version"]);
  const skip = compose.status !== 0 && "needs `docker compose`";
  test("docker-compose.yml fits together", { skip }, async () => {
    const file = await run("docker compose config --format json");
    assert.equal(file.code, 0, file.stderr);
    const { services } = JSON.parse(file.stdout);
    const { app, nats } = services;
    assert.deepEqual(app.command, example.split(" "));
    const url = new URL(app.environment.NATS_URL);
    assert.ok(services[url.hostname] === nats, `${url.hostname} is no server`);
    assert.equal(url.port, `${nats.ports[0].target}`);
    assert.equal(nats.ports[0].host_ip, "127.0.0.1", "others can connect");
    assert.equal(app.depends_on.nats.condition, "service_healthy");
  });

  after(() => {
    if (process.execArgv.some((arg) => arg.includes("test-name-pattern")))
      return;
    const unknown = blocks.filter((block) => !used.has(block));
    assert.deepEqual(unknown, [], "blocks that no test has run");
  });
});
