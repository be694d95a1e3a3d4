import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import { connect, nanos, type ConsumerInfo } from "nats";
import type { NatsServer } from "../../scripts/nats-server.ts";

/** The lines that src/main.ts prints when it meets no messages but its own. */
export const tenLines = Array.from(
  { length: 10 },
  (_, i) => `got message on subject events.${i} with payload "data"`,
);

/** How a run ended: the code is null if a signal did it, `at` is in ms. */
export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
  at: number;
}

/**
 * Runs src/main.ts as a child process. Takes the value of NATS_URL (undefined
 * leaves it unset) and, if they are to be others than usual, the command line,
 * the folder, and further variables of the environment. Gives how it ends, at
 * `performance.now()`, and the process, which leads a process group of its own
 * as in a terminal. After 60 s it is killed, so that its test can fail.
 */
export function runExample(
  url: string | undefined,
  options: { command?: string[]; cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> & { child: ChildProcess } {
  const tsx = [process.execPath, "--import", "tsx", "src/main.ts"];
  const { command = tsx, cwd, env } = options;
  const child = spawn(command[0]!, command.slice(1), {
    cwd,
    env: { ...process.env, ...env, NATS_URL: url },
    detached: true,
  });
  const limit = setTimeout(() => process.kill(-child.pid!, "SIGKILL"), 60_000);
  const outputs = [text(child.stdout), text(child.stderr)] as const;
  const ended = Promise.all([once(child, "close"), ...outputs]).then(
    ([[code], stdout, stderr]) => {
      clearTimeout(limit);
      return { code, stdout, stderr, at: performance.now() };
    },
  );
  return Object.assign(ended, { child });
}

/**
 * Looks every 50 ms whether a condition has come about, until it has, or the
 * run that is given has ended.
 */
export async function until(
  condition: () => Promise<boolean>,
  run?: Promise<Outcome>,
): Promise<void> {
  let running = true;
  void run?.then(() => (running = false));
  while (running && !(await condition())) await pause(50);
}

/**
 * Opens a connection of the test's own to a server with JetStream, past every
 * relay. Gives what the tests use of it; it closes when that is disposed of.
 */
export async function manage(server: NatsServer) {
  const nc = await connect({ servers: server.url });
  const jsm = await nc.jetstreamManager();
  return {
    jsm,
    js: nc.jetstream(),
    /** The state of the example's consumer; throws if it is not there. */
    consumer: () => jsm.consumers.info("EVENTS", "consumer"),
    /** Makes what waits for its ack come again after 1 s instead of 30. */
    hurry: () =>
      jsm.consumers.update("EVENTS", "consumer", { ack_wait: nanos(1_000) }),
    [Symbol.asyncDispose]: () => nc.close(),
  };
}

/** Throws unless a run ended well: these lines, nothing else, exit code 0. */
export function assertLines(
  { code, stdout, stderr }: Outcome,
  lines = tenLines,
): void {
  const wanted = { code: 0, stdout: lines.join("\n") + "\n", stderr: "" };
  assert.deepEqual({ code, stdout, stderr }, wanted);
}

/**
 * Throws unless a server holds what it is to hold after the example has run:
 * the stream with `count` messages, and the consumer, with all of them acked.
 * Gives the state of the consumer.
 */
export async function assertAllAcked(
  server: NatsServer,
  count: number,
): Promise<ConsumerInfo> {
  await using own = await manage(server);
  const stream = await own.jsm.streams.info("EVENTS");
  assert.deepEqual(stream.config.subjects, ["events.>"]);
  assert.equal(stream.state.messages, count);
  const consumer = await own.consumer();
  assert.equal(consumer.config.durable_name, "consumer");
  assert.equal(consumer.config.deliver_subject, undefined, "a pull consumer");
  assert.equal(consumer.config.ack_policy, "explicit");
  assert.equal(consumer.ack_floor.stream_seq, stream.state.last_seq);
  assert.equal(consumer.num_ack_pending, 0);
  assert.equal(consumer.num_pending, 0);
  return consumer;
}

/**
 * Gives the numbers of the events that a server with JetStream hands out to the
 * next reader of the consumer, in ascending order; "" if there is none of them.
 */
export async function comesAgain(server: NatsServer): Promise<string> {
  await using own = await manage(server);
  const consumer = await own.js.consumers
    .get("EVENTS", "consumer")
    .catch(() => null);
  if (!consumer) return "";
  await own.hurry();
  const numbers: string[] = [];
  const options = { max_messages: 10, expires: 3_000 };
  for await (const m of await consumer.fetch(options)) {
    numbers.push(m.subject.replace("events.", ""));
    m.ack();
  }
  return numbers.sort().join("");
}
