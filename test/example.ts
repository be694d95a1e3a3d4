import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { connect, type ConsumerInfo, type JetStreamManager } from "nats";
import type { NatsServer } from "./nats-server.ts";

/** The lines that src/main.ts prints when it meets no messages but its own. */
export const tenLines = Array.from(
  { length: 10 },
  (_, i) => `got message on subject events.${i} with payload "data"`,
);

export interface Outcome {
  /** The exit code; null if a signal ended the process. */
  code: number | null;
  stdout: string;
  stderr: string;
  /** How long the process was there, in seconds. */
  seconds: number;
}

/**
 * Runs src/main.ts as a child process in the project's folder. One that is
 * still running after 60 s is killed, so that its test fails and cleans up.
 *
 * @param url the value of NATS_URL; undefined leaves it unset
 * @param command the command line, by default the one that tsx itself runs
 * @param env further variables of its environment
 * @returns the process, which leads a process group of its own as it would in
 *   a terminal, and how it ends
 */
export function startExample(
  url: string | undefined,
  command = [process.execPath, "--import", "tsx", "src/main.ts"],
  env: NodeJS.ProcessEnv = {},
): { child: ChildProcess; ended: Promise<Outcome> } {
  const started = performance.now();
  const [file, ...args] = command;
  const child = spawn(file!, args, {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    env: { ...process.env, ...env, NATS_URL: url },
    detached: true,
  });
  const limit = setTimeout(() => process.kill(-child.pid!, "SIGKILL"), 60_000);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(limit);
      const seconds = (performance.now() - started) / 1000;
      resolve({ code, stdout, stderr, seconds });
    });
  });
  return { child, ended };
}

/**
 * Runs src/main.ts to its end; takes what `startExample` takes.
 *
 * @returns how it ended
 */
export function runExample(
  ...args: Parameters<typeof startExample>
): Promise<Outcome> {
  return startExample(...args).ended;
}

/**
 * Waits for something while a run goes on, looking every 50 ms.
 *
 * @param condition tells whether it has come about
 * @param ended the run; when it ends first, that ends the waiting
 */
export async function until(
  condition: () => Promise<boolean>,
  ended: Promise<Outcome>,
): Promise<void> {
  let running = true;
  void ended.then(() => (running = false));
  while (running && !(await condition())) await pause(50);
}

/**
 * Opens a connection of the test's own, past every relay.
 *
 * @param server a server with JetStream
 * @returns its manager; the connection closes when this is disposed of
 */
export async function manage(
  server: NatsServer,
): Promise<JetStreamManager & AsyncDisposable> {
  const nc = await connect({ servers: server.url });
  const jsm = await nc.jetstreamManager();
  return Object.assign(jsm, { [Symbol.asyncDispose]: () => nc.close() });
}

/**
 * Asserts that a run ended well: ten lines, nothing else, exit code 0.
 *
 * @param outcome how it ended
 * @throws an AssertionError otherwise
 */
export function assertTenLines({ code, stdout, stderr }: Outcome): void {
  assert.equal(stderr, "");
  assert.equal(stdout, tenLines.join("\n") + "\n");
  assert.equal(code, 0);
}

/**
 * Asserts that a run failed as it should: one line on stderr, exit code 1.
 *
 * @param outcome how it ended
 * @param words what the line has to say, each of them
 * @throws an AssertionError otherwise
 */
export function assertOneLine(
  { code, stderr }: Outcome,
  ...words: string[]
): void {
  assert.match(stderr, /^[^\n]+\n$/);
  for (const word of words) {
    assert.ok(stderr.includes(word), `no "${word}" in: ${stderr}`);
  }
  assert.equal(code, 1);
}

/**
 * Asserts the same of a run that fails before it receives a message.
 *
 * @param outcome how it ended
 * @param words what the line has to say, each of them
 * @throws an AssertionError otherwise
 */
export function assertFails(outcome: Outcome, ...words: string[]): void {
  assertOneLine(outcome, ...words);
  assert.equal(outcome.stdout, "");
}

/**
 * Asserts what the server is to hold after the example has run: the stream and
 * the consumer as configured, and no message waiting for anything.
 *
 * @param server a server with JetStream
 * @param count how many messages are to be stored, all of them acked
 * @returns the state of the consumer, for more questions
 * @throws an AssertionError, or the server's error if something is not there
 */
export async function assertAllAcked(
  server: NatsServer,
  count: number,
): Promise<ConsumerInfo> {
  await using jsm = await manage(server);
  const stream = await jsm.streams.info("EVENTS");
  assert.deepEqual(stream.config.subjects, ["events.>"]);
  assert.equal(stream.state.messages, count);
  const consumer = await jsm.consumers.info("EVENTS", "consumer");
  assert.equal(consumer.config.durable_name, "consumer");
  assert.equal(consumer.config.deliver_subject, undefined, "a pull consumer");
  assert.equal(consumer.config.ack_policy, "explicit");
  assert.equal(consumer.ack_floor.stream_seq, stream.state.last_seq);
  assert.equal(consumer.num_ack_pending, 0);
  assert.equal(consumer.num_pending, 0);
  return consumer;
}
