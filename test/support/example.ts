import assert from "node:assert/strict";
import { spawn, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import { connect } from "nats";
import type { NatsServer } from "../../scripts/nats-server.ts";

/** The lines that src/main.ts prints when it meets no messages but its own. */
export const tenLines = Array.from(
  { length: 10 },
  (_, i) => `got message on subject events.${i} with payload "data"`,
);

export type Program = ReturnType<typeof run>;

/** How a program ended: `code` is null if a signal did it. */
export type Outcome = Awaited<Program>;

/**
 * Runs src/main.ts, or another command, in a child process. Takes the value of
 * NATS_URL (undefined leaves it unset), and options of `spawn`. Gives how it
 * ends, and the process, which leads a process group of its own, as in a
 * terminal. After 80 s it is killed, so that its test can fail.
 */
export function run(
  url: string | undefined,
  options: SpawnOptions & { command?: string } = {},
) {
  const { command = "node --import tsx src/main.ts" } = options;
  const env = { ...process.env, ...options.env, NATS_URL: url };
  const [file, ...args] = command.split(" ");
  const child = spawn(file!, args, { ...options, env, detached: true });
  const limit = setTimeout(() => process.kill(-child.pid!, "SIGKILL"), 80_000);
  const ended = async () => {
    const outputs = [text(child.stdout!), text(child.stderr!)] as const;
    const [code]: (number | null)[] = await once(child, "close");
    clearTimeout(limit);
    return { code, stdout: await outputs[0], stderr: await outputs[1] };
  };
  return Object.assign(ended(), { child });
}

/** Throws unless a run succeeded: these lines, nothing else, exit code 0. */
export function assertSuccess(outcome: Outcome, lines = tenLines): void {
  const stdout = lines.join("\n") + "\n";
  assert.deepEqual(outcome, { code: 0, stdout, stderr: "" });
}

/**
 * Opens an administrator's connection to a server with JetStream, past every
 * relay. It closes when it is disposed of.
 */
export async function connectAdmin(server: NatsServer) {
  const nc = await connect({ servers: server.url });
  const jsm = await nc.jetstreamManager();
  return {
    jsm,
    js: nc.jetstream(),
    /** Gives the state of the example's consumer; throws if there is none. */
    consumerInfo: () => jsm.consumers.info("EVENTS", "consumer"),
    [Symbol.asyncDispose]: () => nc.close(),
  };
}

/**
 * Gives how many messages a server with JetStream has stored, and how many of
 * them the consumer has yet to deliver, or to redeliver unless they are acked.
 */
export async function stateOf(server: NatsServer) {
  await using admin = await connectAdmin(server);
  const stream = await admin.jsm.streams.info("EVENTS").catch(() => null);
  const consumer = await admin.consumerInfo().catch(() => null);
  const { num_pending = 0, num_ack_pending = 0 } = consumer ?? {};
  const stored = stream?.state.messages ?? 0;
  return { stored, unacked: num_pending + num_ack_pending };
}

/**
 * Throws unless a server holds what it is to hold after the example has run:
 * the stream with `count` messages, and the consumer, with all of them acked.
 */
export async function assertAllAcked(server: NatsServer, count: number) {
  assert.deepEqual(await stateOf(server), { stored: count, unacked: 0 });
  await using admin = await connectAdmin(server);
  const stream = await admin.jsm.streams.info("EVENTS");
  assert.deepEqual(stream.config.subjects, ["events.>"]);
  const consumer = await admin.consumerInfo();
  assert.equal(consumer.config.durable_name, "consumer");
  assert.equal(consumer.config.deliver_subject, undefined, "a pull consumer");
  assert.equal(consumer.config.ack_policy, "explicit");
  assert.equal(consumer.ack_floor.stream_seq, stream.state.last_seq);
}

/**
 * Returns when a condition has come about, which is looked at every 50 ms, or
 * when the program that is given has ended.
 */
export async function until(
  condition: () => Promise<boolean>,
  program?: Program,
) {
  let running = true;
  void program?.then(() => (running = false));
  while (running && !(await condition())) await pause(50);
}

/** Returns when a pull request waits at the server, or the program has ended. */
export async function untilPullWaits(server: NatsServer, program?: Program) {
  await using admin = await connectAdmin(server);
  const info = () => admin.consumerInfo().catch(() => null);
  await until(async () => !!(await info())?.num_waiting, program);
}

/** Returns when every message is acked, or when the program has ended. */
export async function untilAllAcked(server: NatsServer, program?: Program) {
  await until(async () => (await stateOf(server)).unacked === 0, program);
}

/** Gives nats-server's arguments for TLS with a certificate of this folder. */
export function tls(name: "localhost" | "elsewhere"): string[] {
  const pem = `test/support/certificates/${name}.pem`;
  return ["--tls", "--tlscert", pem, "--tlskey", pem];
}

/** Gives the environment that makes Node.js trust a certificate as well. */
export function trust(name: "ca" | "elsewhere"): NodeJS.ProcessEnv {
  return { NODE_EXTRA_CA_CERTS: `test/support/certificates/${name}.pem` };
}
