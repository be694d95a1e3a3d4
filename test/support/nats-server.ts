import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import { connect } from "nats";
import { start, temporaryFolder, until, type Program } from "./program.ts";

export type NatsServer = Awaited<ReturnType<typeof startNatsServer>>;

// Each test file has its own process, and so its own ports.
let nextPort = 10_000 + (process.pid % 40) * 500;

/**
 * Gives a port of 127.0.0.1 on which nothing listens. It is none of those that
 * the system picks by itself, so it stays free while its server is away.
 */
export async function freePort(): Promise<number> {
  const port = nextPort++;
  const server = createServer().listen(port, "127.0.0.1");
  const free = await once(server, "listening").catch(() => null);
  if (!free) return freePort();
  server.close();
  await once(server, "close");
  return port;
}

/**
 * Starts a private nats-server on 127.0.0.1, with a store of its own. Takes
 * further arguments, by default those that enable JetStream. Gives the server,
 * ready for clients; disposing of it kills it and removes its store. Throws with
 * its log if it does not start.
 */
export async function startNatsServer(args = "-js") {
  const folder = await temporaryFolder();
  const port = await freePort();
  let program = await launch(folder.path, port, args).catch((err) => {
    folder[Symbol.dispose]();
    throw err;
  });
  return {
    port,
    /** Where it listens, in the form that `NATS_URL` takes. */
    url: `nats://127.0.0.1:${port}`,
    folder: folder.path,
    /** Freezes it. Returns when all its threads stand still. */
    async freeze() {
      program.kill("SIGSTOP");
      await until("it is frozen", () => isFrozen(program.pid!), program);
    },
    /** Ends it. SIGTERM: it stores what it has; SIGKILL: a crash. */
    async stop(signal: NodeJS.Signals) {
      program.kill(signal);
      await program.ended;
    },
    /** Starts it on the same port again, after a crash if it runs. */
    async restart(newArgs = args) {
      await program[Symbol.asyncDispose]();
      program = await launch(folder.path, port, newArgs);
    },
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

async function launch(folder: string, port: number, args: string) {
  const place = `-a 127.0.0.1 -p ${port} -sd ${folder}`;
  const command = `nats-server ${place} --ports_file_dir ${folder} ${args}`;
  // Debian installs it into /usr/sbin, which is on root's PATH only.
  const env = { PATH: `${process.env.PATH}${delimiter}/usr/sbin` };
  const program = start(command, { env, limit: 600 });
  // The server writes this file when it listens.
  const ports = join(folder, `nats-server_${program.pid}.ports`);
  try {
    await until("nats-server is ready", () => existsSync(ports), program);
  } catch (err) {
    await program[Symbol.asyncDispose]();
    throw err;
  }
  return program;
}

// Looks at the state of each thread, which stands behind the program's name.
// Systems without /proc are believed.
function isFrozen(pid: number) {
  const tasks = `/proc/${pid}/task`;
  if (!existsSync(tasks)) return true;
  return readdirSync(tasks).every((task) =>
    readFileSync(`${tasks}/${task}/stat`, "utf8").includes(") T "),
  );
}

/**
 * Opens a connection to a server, past every relay. Gives it with its `jsm` and
 * `js`; disposing of it closes it.
 */
export async function connectAdmin(server: NatsServer) {
  const nc = await connect({ servers: server.url, maxReconnectAttempts: -1 });
  const jsm = await nc.jetstreamManager({ checkAPI: false });
  const js = nc.jetstream();
  return { nc, jsm, js, [Symbol.asyncDispose]: () => nc.close() };
}

function nullIfNotFound(err: Error) {
  if (!err.message.endsWith("not found")) throw err;
  return null;
}

/**
 * Gives how many messages the stream EVENTS of a server with JetStream stores,
 * and how many of them a consumer, by default the example's, has yet to get
 * acked. What is not there counts 0.
 */
export async function stateOf(server: NatsServer, name = "consumer") {
  await using admin = await connectAdmin(server);
  const { consumers, streams } = admin.jsm;
  const stream = await streams.info("EVENTS").catch(nullIfNotFound);
  const info = consumers.info("EVENTS", name);
  const consumer = await info.catch(nullIfNotFound);
  const { num_pending = 0, num_ack_pending = 0 } = consumer ?? {};
  const stored = stream?.state.messages ?? 0;
  return { stored, unacked: num_pending + num_ack_pending };
}

/**
 * Returns when a request for messages waits at a consumer, by default the
 * example's. Throws if the program that is to send it ends before.
 */
export async function untilItWaits(
  server: NatsServer,
  program: Program,
  name = "consumer",
) {
  const waits = async () => {
    await using admin = await connectAdmin(server);
    const { consumers } = admin.jsm;
    const info = await consumers.info("EVENTS", name).catch(() => null);
    return (info?.num_waiting ?? 0) > 0;
  };
  await until("it waits for messages", waits, program);
}
