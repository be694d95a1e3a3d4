import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { connect } from "nats";
import { start, temporaryFolder, until, type Program } from "./program.ts";

export type NatsServer = Awaited<ReturnType<typeof startNatsServer>>;

/** Gives a server that listens on a port of 127.0.0.1, or null if another does. */
async function listen(port: number) {
  const server = createServer().unref().listen(port, "127.0.0.1");
  return once(server, "listening").then(
    () => server,
    () => null,
  );
}

// Each process that tests has 400 ports of its own. It listens on the first one,
// so that no other takes them. They are below those that Linux picks by itself,
// so the port of a server stays free while that server is away.
let port = 0;
do port = 10_000 + 400 * Math.floor(Math.random() * 50);
while (!(await listen(port)));

/** Gives a port of 127.0.0.1 on which nothing listens. */
export async function freePort(): Promise<number> {
  const candidate = ++port;
  const server = await listen(candidate);
  if (!server) return freePort();
  await once(server.close(), "close");
  return candidate;
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
    /** Kills it, as a crash does. */
    async crash() {
      program.kill("SIGKILL");
      await program.ended;
    },
    /** Starts it on the same port again, after a crash if it runs. */
    async restart(newArgs = args) {
      if (!existsSync(folder.path)) return; // The test is over.
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
  const program = start(command, { limit: 600 });
  // The server writes this file when it listens.
  const ports = join(folder, `nats-server_${program.pid}.ports`);
  await until("nats-server is ready", () => existsSync(ports), program);
  return program;
}

/**
 * Opens a connection to a server, past every relay. Gives its `jsm` and `js`,
 * which wait for so many ms; disposing of it closes it.
 */
export async function connectAdmin(server: NatsServer, timeout = 60_000) {
  const options = { servers: server.url, timeout, maxReconnectAttempts: -1 };
  const nc = await connect(options);
  const jsm = await nc.jetstreamManager({ timeout, checkAPI: false });
  const js = nc.jetstream({ timeout });
  return { jsm, js, [Symbol.asyncDispose]: () => nc.close() };
}

function nullIfNotFound(err: Error) {
  if (!err.message.endsWith("not found")) throw err;
  return null;
}

/**
 * Gives how many messages the stream EVENTS of a server with JetStream stores,
 * and up to which number a consumer, by default the example's, has all acked.
 * What is not there counts 0.
 */
export async function stateOf(server: NatsServer, name = "consumer") {
  await using admin = await connectAdmin(server);
  const { consumers, streams } = admin.jsm;
  const stream = await streams.info("EVENTS").catch(nullIfNotFound);
  const info = consumers.info("EVENTS", name);
  const consumer = await info.catch(nullIfNotFound);
  return {
    stored: stream?.state.messages ?? 0,
    ackedTo: consumer?.ack_floor.stream_seq ?? 0,
  };
}

/**
 * Returns when so many requests for messages, by default one, wait at a consumer,
 * by default the example's. Throws if the program that is to send the last one
 * ends before.
 */
export async function untilItWaits(
  server: NatsServer,
  program: Program,
  name = "consumer",
  count = 1,
) {
  await using admin = await connectAdmin(server);
  const waits = async () => {
    const { num_waiting } = await admin.jsm.consumers.info("EVENTS", name);
    return num_waiting >= count;
  };
  await until("it waits for messages", waits, program);
}
