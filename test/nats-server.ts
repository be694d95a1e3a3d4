import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Debian installs nats-server into /usr/sbin, which is on root's PATH only.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };

if (spawnSync("nats-server", ["--version"], { env }).error) {
  console.error(
    "nats-server is not on the PATH. Install it: `apt-get install nats-server` on Debian and Ubuntu, `brew install nats-server` on macOS, https://nats.io/download elsewhere.",
  );
  process.exit(1);
}

export interface NatsServer extends AsyncDisposable {
  /** Where it listens, in the form that `NATS_URL` takes. */
  url: string;
  /** The port alone; it stays the same when the server is started again. */
  port: number;
  /**
   * Starts the server again after `stop`, on the same port and store.
   * Resolves when it is ready; throws with its log if it ends before that.
   */
  start(): Promise<void>;
  /**
   * Stops the server with `signal` (SIGTERM: it stores what it has; SIGKILL: a
   * crash) and resolves when the process has ended. The store is kept.
   */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/**
 * Starts a private nats-server on a free port of 127.0.0.1, with a store of its
 * own in a temporary folder, which goes when the server is disposed of.
 *
 * @param args further arguments; by default they enable JetStream
 * @returns the server, ready for clients
 * @throws an error with the server's log if it ends before it is ready
 */
export async function startNatsServer(args = ["-js"]): Promise<NatsServer> {
  const store = await mkdtemp(join(tmpdir(), "nats-server-"));
  let child: ChildProcess;
  const server: NatsServer = {
    url: "",
    port: -1,
    async start() {
      const listen = ["-a", "127.0.0.1", "-p", `${server.port}`];
      child = spawn("nats-server", [...listen, "-sd", store, ...args], { env });
      server.port = await ready(child);
      server.url = `nats://127.0.0.1:${server.port}`;
    },
    async stop(signal = "SIGTERM") {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal);
      await once(child, "exit");
    },
    async [Symbol.asyncDispose]() {
      await server.stop();
      await rm(store, { recursive: true });
    },
  };
  try {
    await server.start();
  } catch (err) {
    await server[Symbol.asyncDispose]();
    throw err;
  }
  return server;
}

// A server that is interrupted as it starts may say that it is ready, but not
// where it listens. It is about to end.
const listening = /client connections on .*:(\d+)[^]*Server is ready/;

function ready(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let log = "";
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      log += text;
      const port = listening.exec(log);
      if (port) resolve(Number(port[1]));
    });
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`nats-server ended:\n${log}`)));
  });
}
