import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { delimiter, dirname, join } from "node:path";
import { describe, test } from "node:test";
import { AckPolicy } from "nats";
import { temporaryFolder } from "./support/cleanup.ts";
import { assertSuccess, example } from "./support/example.ts";
import { connectAdmin, stateOf } from "./support/jetstream.ts";
import { startNatsServer } from "./support/nats-server.ts";
import { run, start, until } from "./support/program.ts";
import { copyProject } from "./support/project.ts";

const demo = "node --import tsx scripts/demo.ts";

/** Gives what a demo that has TMPDIR as its temporary folder stores in it. */
function stores(folder: string) {
  return readdirSync(folder).filter((name) => name.startsWith("nats-server-"));
}

describe("scripts and servers", { concurrency: 3 }, () => {
  test("npm run demo prints the ten lines and leaves nothing", async () => {
    using tmp = await temporaryFolder("demo-");
    const env = { TMPDIR: tmp.path };
    assertSuccess(await run("npm run -s demo", { env }));
    assert.deepEqual(stores(tmp.path), []);
  });

  test("the demo passes on the exit code of its example", async () => {
    using project = await copyProject();
    await writeFile(join(project.path, "src/main.ts"), "process.exit(7);");
    const outcome = await run(demo, { cwd: project.path });
    assert.deepEqual(outcome, { code: 7, stdout: "", stderr: "" });
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`the demo leaves nothing when it gets ${signal}`, async () => {
      using project = await copyProject();
      using tmp = await temporaryFolder("demo-");
      const waits = 'console.log("waits"); setInterval(() => {}, 1_000);';
      await writeFile(join(project.path, "src/main.ts"), waits);
      const env = { TMPDIR: tmp.path };
      await using program = start(demo, { cwd: project.path, env });
      const hasStarted = () => program.output().stdout === "waits\n";
      await until("the example waits", hasStarted, program);
      assert.equal(stores(tmp.path).length, 1, "nothing to clean up yet");
      // Ctrl-C in a terminal goes to the example, too; `kill` to the demo alone.
      if (signal === "SIGINT") program.killGroup(signal);
      else program.kill(signal);
      const outcome = await program.ended;
      assert.deepEqual(outcome, { code: 130, stdout: "waits\n", stderr: "" });
      assert.deepEqual(stores(tmp.path), []);
    });
  }

  const hide = "mount -t tmpfs none /usr/sbin";
  const canHide = spawnSync("unshare", ["-rm", "sh", "-c", hide]).status === 0;
  const skip = !canHide && "needs `unshare -rm`, to hide a nats-server";
  test("the demo says that nats-server is missing", { skip }, async () => {
    const path = [dirname(process.execPath), "/usr/bin", "/bin"];
    const script = `${hide}; exec ${demo}`;
    const outcome = await run(["unshare", "-rm", "sh", "-c", script], {
      env: { PATH: path.join(delimiter) },
    });
    const stderr =
      "nats-server is not on the PATH. The README says how to install it on Debian, Ubuntu and macOS, https://nats.io/download for elsewhere.\n";
    assert.deepEqual(outcome, { code: 1, stdout: "", stderr });
  });

  test("npm run state tells what is there", async () => {
    await using server = await startNatsServer();
    const { url } = server;
    assertSuccess(await run(example, { url }));
    await using admin = await connectAdmin(server);
    for (let i = 0; i < 6; i++) await admin.js.publish("events.more", "data");
    const consumer = await admin.js.consumers.get("EVENTS", "consumer");
    await (await consumer.next())?.ackAck();
    (await consumer.next())?.nak();
    // The server redelivers that one before or after a new one.
    await consumer.next();
    await consumer.next();
    const settings = { durable_name: "idle", filter_subject: "events.none" };
    const acks = { ack_policy: AckPolicy.Explicit };
    await admin.jsm.consumers.add("EVENTS", { ...settings, ...acks });
    void (await admin.js.consumers.get("EVENTS", "idle")).next();
    const stdout = [
      "The stream EVENTS holds 16 messages.",
      "The consumer consumer:",
      "- not delivered yet (num_pending): 3",
      "- delivered, not acked (num_ack_pending): 2",
      "- of these, redelivered (num_redelivered): 1",
      "- requests that wait (num_waiting): 0",
      "The consumer idle:",
      "- not delivered yet (num_pending): 0",
      "- delivered, not acked (num_ack_pending): 0",
      "- of these, redelivered (num_redelivered): 0",
      "- requests that wait (num_waiting): 1\n",
    ].join("\n");
    const state = await run("npm run -s state EVENTS", { url });
    assert.deepEqual(state, { code: 0, stdout, stderr: "" });
  });

  test("npm run delete deletes a consumer, or all", async () => {
    await using server = await startNatsServer();
    const { url } = server;
    assertSuccess(await run(example, { url }));
    for (const { words, stdout, stderr, holds } of [
      {
        words: "",
        stdout: "",
        stderr: "ended: name a stream, for example: npm run delete EVENTS\n",
        holds: { stored: 10, unacked: 0 },
      },
      {
        words: " OTHER",
        stdout: "",
        stderr: "ended: stream not found\n",
        holds: { stored: 10, unacked: 0 },
      },
      {
        words: " EVENTS other",
        stdout: "",
        stderr: "ended: consumer not found\n",
        holds: { stored: 10, unacked: 0 },
      },
      {
        words: " EVENTS consumer",
        stdout: "deleted consumer\n",
        stderr: "",
        holds: { stored: 10, unacked: 0 },
      },
      {
        words: " EVENTS",
        stdout: "deleted EVENTS\n",
        stderr: "",
        holds: { stored: 0, unacked: 0 },
      },
    ]) {
      const outcome = await run(`npm run -s delete${words}`, { url });
      assert.deepEqual(outcome, { code: stderr ? 1 : 0, stdout, stderr });
      assert.deepEqual(await stateOf(server), holds);
    }
    const gone = await run("npm run -s state EVENTS", { url });
    assert.equal(gone.stderr, "ended: stream not found\n");
  });

  test("a server listens on 127.0.0.1 only", async () => {
    await using server = await startNatsServer();
    const right = connect(server.port, "127.0.0.1");
    await once(right, "connect");
    right.destroy();
    const other = connect({
      port: server.port,
      host: "127.0.0.2",
      timeout: 500,
    });
    const how = await Promise.race([
      once(other, "connect").then(
        () => "connected",
        () => "refused",
      ),
      once(other, "timeout").then(() => "no answer"),
    ]);
    other.destroy();
    assert.notEqual(how, "connected");
  });

  test("a server that cannot start says why", async () => {
    const started = startNatsServer(["--no-such-flag"]);
    await assert.rejects(started, /flag provided but not defined/);
  });

  test("a server ends as it is told", async () => {
    await using server = await startNatsServer();
    const crash = await server.stop("SIGKILL");
    assert.equal(crash.code, "SIGKILL");
    assert.doesNotMatch(crash.stderr, /Shutdown/);
    await server.restart();
    assert.match((await server.stop()).stderr, /Server Exiting/);
  });

  const compose = spawnSync("docker", ["compose", "version"]);
  const needs = compose.status !== 0 && "needs `docker compose`";
  test("docker-compose.yml fits together", { skip: needs }, async () => {
    const file = await run("docker compose config --format json");
    assert.equal(file.code, 0, file.stderr);
    const { services } = JSON.parse(file.stdout);
    const { app, nats } = services;
    assert.deepEqual(app.command, example.split(" "));
    assert.ok(nats.command.includes("-js"), "the server has no JetStream");
    const url = new URL(app.environment.NATS_URL);
    assert.ok(services[url.hostname] === nats, `${url.hostname} is no server`);
    assert.equal(url.port, `${nats.ports[0].target}`);
    assert.equal(nats.ports[0].host_ip, "127.0.0.1", "others can connect");
    assert.equal(app.depends_on.nats.condition, "service_healthy");
  });
});
