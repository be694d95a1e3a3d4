import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Debian installs nats-server into /usr/sbin, which is on root's PATH only.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };
if (spawnSync("nats-server", ["--version"], { env }).error) {
  console.error(
    "nats-server is not on the PATH. The README says how to install it on Debian, Ubuntu and macOS, https://nats.io/download for elsewhere.",
  );
  process.exit(1);
}

export type NatsServer = Awaited<ReturnType<typeof startNatsServer>>;

/**
 * Starts a private nats-server on a free port of 127.0.0.1, with a store of its
 * own in a temporary folder, which goes when the server is disposed of. Takes
 * further arguments, by default those that enable JetStream. Gives the server,
 * ready for clients. Throws with its log if it ends before that.
 */
export async function startNatsServer(args = ["-js"]) {
  const store = await mkdtemp(join(tmpdir(), "nats-server-"));
  const server = {
    /** Where it listens, in the form that `NATS_URL` takes. */
    url: "",
    port: -1,
    store,
    child: undefined as ChildProcess | undefined,
    /** Starts it at the same place, as `startNatsServer` does; first kills it. */
    async restart(args = ["-js"]) {
      await server.stop("SIGKILL");
      const place = ["-a", "127.0.0.1", "-p", `${server.port}`, "-sd", store];
      const child = spawn("nats-server", [...place, ...args], { env });
      server.child = child;
      // A server that is interrupted as it starts may say that it is ready, but
      // not where it listens. It is about to end.
      const ready = /client connections on .*:(\d+)[^]*Server is ready/;
      let log = "";
      const chunks = child.stderr.setEncoding("utf8");
      for await (const text of chunks.iterator({ destroyOnReturn: false })) {
        log += text;
        const [, port] = ready.exec(log) ?? [];
        if (!port) continue;
        server.port = Number(port);
        server.url = `nats://127.0.0.1:${port}`;
        child.stderr.resume();
        return;
      }
      await server[Symbol.asyncDispose]();
      throw new Error(`nats-server ended:\n${log}`);
    },
    /** Stops it (SIGTERM: it stores what it has; SIGKILL: a crash). */
    async stop(signal: NodeJS.Signals = "SIGTERM") {
      const { child } = server;
      if (!child || child.exitCode !== null || child.signalCode) return;
      child.kill(signal);
      await once(child, "exit");
    },
    async [Symbol.asyncDispose]() {
      await server.stop();
      await rm(store, { recursive: true, force: true });
    },
  };
  await server.restart(args);
  return server;
}
