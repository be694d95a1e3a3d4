// Handles every event of the stream EVENTS, several at once. Needs
// connection.ts beside it.
import { setTimeout as pause } from "node:timers/promises";
import { AckPolicy, millis, type JsMsg, type NatsConnection } from "nats";
import { connectToNats, end, isNotFound, retry, tell } from "./connection.ts";

const name = "worker";
const concurrency = 50;
const maxDeliveries = 20;

// Your code goes here. It has to be idempotent: a message can be redelivered
// although it was handled. This example works as many ms as the payload says.
async function handle(m: JsMsg): Promise<void> {
  const payload = m.string();
  if (payload === "fail") throw new Error("the payload says so");
  await pause(Number(payload) || 50);
  console.log(`handled ${m.subject}`);
}

const inWork = new Set<Promise<void>>();
let stopping = false;
let nc: NatsConnection | undefined;
process.once("SIGTERM", () => void stop());
process.once("SIGINT", () => void stop());

nc = await connectToNats();
const jsm = await nc.jetstreamManager({ checkAPI: false });
const info = await retry("find the consumer", findConsumer);
const consumer = nc.jetstream().consumers.getPullConsumerFor(info);
for (let i = 0; i < concurrency; i++) void work();

// `retry` ends the worker when somebody has deleted the consumer.
for (;;) {
  await retry("see the consumer", () => consumer.info());
  await pause(5_000);
}

// What is there already keeps its settings.
async function findConsumer() {
  try {
    return await jsm.consumers.info("EVENTS", name);
  } catch (err) {
    if (!isNotFound(err as Error)) throw err;
    if ((err as Error).message === "stream not found")
      await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });
  }
  const config = { durable_name: name, ack_policy: AckPolicy.Explicit };
  return jsm.consumers.add("EVENTS", config);
}

async function work() {
  while (!stopping) {
    const m = await retry("get a message", () => consumer.next());
    if (!m) continue;
    // Not at once, or another request of this worker would get it.
    if (stopping) return m.nak(5_000);
    const job = handleAndAck(m);
    inWork.add(job);
    await job;
    inWork.delete(job);
  }
}

async function handleAndAck(m: JsMsg) {
  // This comes before `handle`, which may also fail by ending the process.
  if (m.info.deliveryCount > maxDeliveries) {
    console.error(`gave up message ${m.seq}, ${m.subject}`);
    return m.term();
  }
  // Without `working`, what takes longer than `ack_wait` would be redelivered.
  const interval = millis(info.config.ack_wait!) / 3;
  const timer = setInterval(() => m.working(), interval);
  try {
    await handle(m);
  } catch (err) {
    console.error(`message ${m.seq}, ${m.subject}:`, err);
    return m.nak(30_000);
  } finally {
    clearInterval(timer);
  }
  // What the server does not confirm within 5 s, it redelivers.
  await m.ackAck().catch((err: Error) => {
    tell(`no ack of message ${m.seq}: ${err.message}`, "no ack");
    if (stopping) process.exitCode = 1;
  });
}

async function stop() {
  stopping = true;
  await Promise.all(inWork);
  // When `flush` resolves, the server has all that was sent.
  const isAway = () => end(new Error("the server is away"));
  setTimeout(isAway, 2_000);
  await nc?.flush().catch(isAway);
  if (process.exitCode) end(new Error("the server did not confirm an ack"));
  process.exit();
}
