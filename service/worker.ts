// Handles messages of the stream EVENTS until it gets SIGTERM or SIGINT.
import { setTimeout as pause } from "node:timers/promises";
import {
  AckPolicy,
  connect,
  ConsumerEvents,
  deadline,
  Events,
  nanos,
  type JsMsg,
} from "nats";

// How many messages are handled at once, and how many ms each may take. Keep
// `limit` at 60,000 or below.
const concurrency = 50;
const limit = 10_000;

// Your code goes here. It has to be idempotent: a message can be delivered
// again although it was handled.
async function handle(m: JsMsg) {
  await pause(50);
  console.log(`handled ${m.subject}`);
}

// When the connection is lost, the client tries to reconnect until it can. With
// this `pingInterval`, it notices a dead connection within 9 s.
const { NATS_URL } = process.env;
const servers = (NATS_URL || "nats://localhost:4222").split(",");
const nc = await connect({
  servers,
  maxReconnectAttempts: -1,
  pingInterval: 3_000,
});
void watchConnection();

const jsm = await nc.jetstreamManager();
const js = nc.jetstream();
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// A message waits in the client until others are handled, after an outage longer.
// What fails is given up after 100 tries, about an hour and a half.
await jsm.consumers.add("EVENTS", {
  durable_name: "worker",
  ack_policy: AckPolicy.Explicit,
  ack_wait: nanos(3 * limit),
  max_deliver: 100,
});

// If nothing comes from the server for the time of `expires`, the client takes
// this for an outage, and requests again. So no handler may take longer, and a
// dead connection has to be noticed before.
const consumer = await js.consumers.get("EVENTS", "worker");
const messages = await consumer.consume({
  max_messages: concurrency,
  expires: Math.max(limit, 10_000),
});
void watchConsumer();

// `stop` ends the loop when it has read what has arrived.
process.on("SIGTERM", () => messages.stop());
process.on("SIGINT", () => messages.stop());

const inWork = new Set<Promise<void>>();
for await (const m of messages) {
  const job = work(m);
  inWork.add(job);
  void job.then(() => inWork.delete(job));
  if (inWork.size === concurrency) await Promise.race(inWork);
}
await Promise.all(inWork);

// `flush` resolves when the server has got what was sent.
await deadline(nc.flush(), 3_000).catch(() =>
  end("no connection to the server"),
);
process.exit();

async function work(m: JsMsg) {
  const tries = m.info.deliveryCount;
  try {
    await deadline(handle(m), limit);
    m.ack();
  } catch (err) {
    console.error("%s, try %d:", m.subject, tries, err);
    m.nak(Math.min(1_000 * 2 ** tries, 60_000));
  }
}

async function watchConnection() {
  void nc.closed().then((err) => err && end(err.message));
  for await (const { type, data, permissionContext } of nc.status()) {
    if (permissionContext) end(`not permitted: ${permissionContext.subject}`);
    if (type === Events.Disconnect || type === Events.Reconnect)
      console.error(`${type}: ${data}`);
  }
}

async function watchConsumer() {
  for await (const { type } of await messages.status()) {
    switch (type) {
      case ConsumerEvents.HeartbeatsMissed:
      case ConsumerEvents.NoResponders:
        console.error(type);
        break;
      case ConsumerEvents.ConsumerDeleted:
      case ConsumerEvents.ConsumerNotFound:
      case ConsumerEvents.StreamNotFound:
        end(type);
    }
  }
}

function end(why: string): never {
  console.error(`ended: ${why}`);
  process.exit(1);
}
