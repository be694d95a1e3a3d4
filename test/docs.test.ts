import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { nkeys } from "nats";
import { temporaryFolder } from "./support/cleanup.ts";
import { makeCredentials } from "./support/credentials.ts";
import { assertSuccess, example, tenLines } from "./support/example.ts";
import * as jetstream from "./support/jetstream.ts";
import { startNatsServer } from "./support/nats-server.ts";
import { run, start } from "./support/program.ts";
import { copyProject } from "./support/project.ts";
import { authority, certificate } from "./support/tls.ts";

const { assertAllAcked, connectAdmin, stateOf } = jetstream;
const { untilAllAcked, untilPullsWait } = jetstream;
const main = await readFile("src/main.ts", "utf8");
const readme = await readFile("README.md", "utf8");
const tenNumbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const allAcked = { stored: 10, unacked: 0 };

/** Replaces a text that occurs once; throws if it does not. */
function replace(code: string, text: string, replacement: string) {
  assert.equal(code.split(text).length, 2, `not once: ${text}`);
  return code.replace(text, () => replacement);
}

/** Gives the code block of a Markdown text that has some words in it. */
function codeBlock(markdown: string, words: string) {
  const parts = markdown.split(/^```.*\n/m);
  const blocks = parts.filter((part, i) => i % 2 === 1 && part.includes(words));
  assert.equal(blocks.length, 1, `not in one code block: ${words}`);
  return blocks[0]!;
}

/** Adds an option of the stream or the consumer to src/main.ts. */
function withOption(where: string, option: string) {
  const start = where === "stream" ? "streams.add({" : '.add("EVENTS", {';
  return replace(main, start, `${start} ${option},`);
}

/**
 * Type-checks a src/main.ts in a copy of this project, and runs it; in its code,
 * names that are missing are imported from `nats`. Takes what `start` takes, and
 * `unchecked` for code of which a part is never reached.
 */
async function runChanged(
  code: string,
  options: { url: string; env?: object; unchecked?: boolean },
) {
  const names = "AckPolicy, connect, DeliverPolicy, nanos, RetentionPolicy";
  const complete = replace(code, "AckPolicy, connect }", `${names} }`);
  using project = await copyProject();
  await writeFile(join(project.path, "src/main.ts"), complete);
  if (!options.unchecked) {
    const check = await run("npx tsc", { cwd: project.path });
    assert.equal(check.code, 0, check.stdout);
  }
  return await run(example, { ...options, cwd: project.path });
}

describe("README.md and docs/", { concurrency: 3 }, () => {
  const files = [
    "README.md",
    "docs/connect.md",
    "docs/newer-client.md",
    "docs/troubleshooting.md",
    "service/README.md",
    "test/README.md",
  ];
  for (const file of files) {
    test(`${file} has links that lead somewhere`, async () => {
      const text = await readFile(file, "utf8");
      for (const [, link] of text.matchAll(/\]\(([^)]+)\)/g)) {
        if (link!.startsWith("https://")) continue;
        const [path, anchor] = link!.split("#");
        const target = path ? join(dirname(file), path) : file;
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

    test(`${file} has scripts that are there`, async () => {
      const text = await readFile(file, "utf8");
      const { scripts } = JSON.parse(await readFile("package.json", "utf8"));
      for (const [, name] of text.matchAll(/npm run (?:-s )?(\w+)/g))
        assert.ok(scripts[name!], `npm run ${name}`);
      const files = /\b(?:src|service|scripts|docs)\/[\w-]+\.\w+/g;
      for (const [name] of text.matchAll(files))
        assert.ok(existsSync(name), `there is no ${name}`);
    });
  }

  test("the README shows lines of src/main.ts, in their order", () => {
    const lines = codeBlock(readme, "streams.add").split("\n");
    let rest = main.split("\n");
    for (const line of lines.filter((line) => line !== "")) {
      const i = rest.indexOf(line);
      assert.notEqual(i, -1, `not in src/main.ts, or not there: ${line}`);
      rest = rest.slice(i + 1);
    }
  });

  const orders = tenNumbers.map((i) => `events.orders.${i}`);
  for (const { where, option, before = [], prints = tenLines, holds } of [
    {
      where: "consumer",
      option: 'filter_subject: "events.orders.*"',
      before: orders,
      prints: orders.map(
        (s) => `got message on subject ${s} with payload "old"`,
      ),
      holds: { stored: 20, unacked: 0 },
    },
    {
      where: "consumer",
      option: "deliver_policy: DeliverPolicy.New",
      before: ["events.old"],
      holds: { stored: 11, unacked: 0 },
    },
    { where: "consumer", option: "ack_wait: nanos(120_000)" },
    { where: "consumer", option: "max_ack_pending: 5_000" },
    { where: "stream", option: "max_age: nanos(7 * 86_400_000)" },
    {
      where: "stream",
      option: "retention: RetentionPolicy.Workqueue",
      holds: { stored: 0, unacked: 0 },
    },
  ]) {
    test(`the README's change works: ${option}`, async () => {
      const lines = readme.split("\n");
      const row = lines.find((line) => line.includes(`\`${option}\``));
      assert.ok(row?.includes(` ${where} `), "not in the README");
      await using server = await startNatsServer();
      await using admin = await connectAdmin(server);
      if (before.length > 0)
        await admin.jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });
      for (const subject of before) await admin.js.publish(subject, "old");
      const code = withOption(where, option);
      assertSuccess(await runChanged(code, { url: server.url }), prints);
      assert.deepEqual(await stateOf(server), holds ?? allAcked);
    });
  }

  test("the README's ephemeral consumer goes by itself", async () => {
    assert.ok(readme.includes("`const { name } =`"), "not in the README");
    const add = 'await jsm.consumers.add("EVENTS", {';
    const added = replace(main, add, `const { name } = ${add}`);
    const nameless = replace(added, '  durable_name: "consumer",\n', "");
    const code = replace(
      nameless,
      'get("EVENTS", "consumer")',
      'get("EVENTS", name)',
    );
    await using server = await startNatsServer();
    assertSuccess(await runChanged(code, { url: server.url }));
    await using admin = await connectAdmin(server);
    for (const seconds of Array(20).keys()) {
      const consumers = await admin.jsm.consumers.list("EVENTS").next();
      if (consumers.length === 0) return;
      await pause(1_000);
      assert.ok(seconds < 19, "it is still there after 20 s");
    }
  });

  test("the README's second reader gets every message, too", async () => {
    const code = main.replaceAll('"consumer"', '"second"');
    await using server = await startNatsServer();
    assertSuccess(await run(example, { url: server.url }));
    assertSuccess(await runChanged(code, { url: server.url }));
    await using admin = await connectAdmin(server);
    const info = await admin.jsm.consumers.info("EVENTS", "second");
    assert.equal(info.num_pending, 10, "it has read the ten of the first run");
  });

  for (const { words, where, line } of [
    {
      words: "streams.update",
      where: "stream",
      line: 'await jsm.streams.update("EVENTS", { max_age: nanos(7 * 86_400_000) });',
    },
    {
      words: "consumers.update",
      where: "consumer",
      line: 'await jsm.consumers.update("EVENTS", "consumer", { ack_wait: nanos(120_000) });',
    },
  ]) {
    test(`the README's ${words} changes what is there`, async () => {
      assert.ok(readme.includes(`\`${line}\``), "not in the README");
      await using server = await startNatsServer();
      assertSuccess(await run(example, { url: server.url }));
      const add = "await jsm.streams.add";
      const once = replace(main, add, `${line}\nprocess.exit();\n${add}`);
      const { url } = server;
      const update = await runChanged(once, { url, unchecked: true });
      assert.deepEqual(update, { code: 0, stdout: "", stderr: "" });
      const option = /\{ (.*) \}/.exec(line)![1]!;
      const changed = withOption(where, option);
      assertSuccess(await runChanged(changed, { url: server.url }));
      assert.deepEqual(await stateOf(server), { stored: 20, unacked: 0 });
    });
  }

  const connectLine =
    "const nc = await connect({ ...connectionOptions(addresses), timeout: 5_000 });\n";
  const user = nkeys.createUser();
  const publicKey = user.getPublicKey();
  const client = resolve(certificate("localhost"));
  for (const { login, words, configuration, edit, scheme = "nats", env } of [
    {
      login: "an NKey",
      words: "nkeyAuthenticator",
      configuration: async () =>
        `jetstream {}\nauthorization { users: [{ nkey: ${publicKey} }] }`,
      edit: (block: string) => block,
      env: { NKEY_SEED: Buffer.from(user.getSeed()).toString() },
    },
    {
      login: "a credentials file",
      words: "credsAuthenticator",
      configuration: async (folder: string) => {
        const made = makeCredentials();
        await writeFile(join(folder, "my.creds"), made.credentialsFile);
        return made.serverConfiguration;
      },
      edit: (block: string, folder: string) =>
        replace(block, "my.creds", join(folder, "my.creds")),
    },
    {
      login: "a client certificate",
      words: "certFile",
      configuration: async () => `
        jetstream {}
        tls {
          cert_file: "${client}"
          key_file: "${client}"
          ca_file: "${resolve(authority)}"
          verify: true
        }`,
      edit: (block: string) =>
        replace(replace(block, "cert.pem", client), "key.pem", client),
      scheme: "tls",
      env: { NODE_EXTRA_CA_CERTS: resolve(authority) },
    },
  ]) {
    test(`docs/connect.md tells how to log in with ${login}`, async () => {
      const guide = await readFile("docs/connect.md", "utf8");
      using folder = await temporaryFolder("login-");
      const file = join(folder.path, "server.conf");
      await writeFile(file, await configuration(folder.path));
      await using server = await startNatsServer(["-c", file]);
      const url = `${scheme}://localhost:${server.port}`;
      const refusal = await run(example, { url, env });
      assert.equal(refusal.code, 1, "the server lets everybody in");
      const block = edit(codeBlock(guide, words), folder.path);
      const code = replace(main, connectLine, block);
      assertSuccess(await runChanged(code, { url, env }));
    });
  }

  test("docs/newer-client.md tells how to change the packages", async () => {
    const guide = await readFile("docs/newer-client.md", "utf8");
    const patch = await readFile("docs/newer-client.patch", "utf8");
    const shown = codeBlock(guide, "-import").trimEnd().split("\n");
    const changes = patch.split("\n").filter((line) => /^[-+]/.test(line));
    for (const line of shown) assert.ok(changes.includes(line), line);

    using project = await copyProject();
    const cwd = project.path;
    await rm(join(cwd, "node_modules"));
    const commands = codeBlock(guide, "git apply");
    // Other versions than those of the day when this was written are not tested.
    const pinned = replace(commands, "jetstream@3", "jetstream@3.4.0");
    const script = replace(pinned, "transport-node@3", "transport-node@3.4.0");
    const install = await run(["sh", "-ec", script], { cwd, limit: 120 });
    assert.equal(install.code, 0, install.stderr);
    const config = join(cwd, "tsconfig.json");
    const folders = '"src", "service", "scripts", "test"';
    const text = await readFile(config, "utf8");
    await writeFile(config, replace(text, folders, '"src", "service"'));
    const check = await run("npx tsc", { cwd });
    assert.equal(check.code, 0, check.stdout);

    await using server = await startNatsServer();
    assertSuccess(await run(example, { url: server.url, cwd }));
    await assertAllAcked(server, 10);
    const worker = "node --import tsx service/worker.ts";
    await using program = start(worker, { url: server.url, cwd });
    await untilPullsWait(server, program, { name: "worker" });
    await untilAllAcked(server, program, "worker");
    program.kill("SIGTERM");
    const { code, stderr } = await program.ended;
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    const deleted = await run("npm run -s delete EVENTS", {
      url: server.url,
      cwd,
    });
    assert.equal(deleted.code, 0, deleted.stderr);
    assert.deepEqual(await stateOf(server), { stored: 0, unacked: 0 });
  });
});
