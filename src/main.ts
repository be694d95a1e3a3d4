// JetStream stores messages on the server. A _pull consumer_ delivers
// them on request: the client decides when to ask, and for how many.
import { AckPolicy, connect } from "nats";

// `NATS_URL` is one address, or several separated by commas. Uncaught
// errors go to `fail`, at the end of this file.
const addresses = process.env.NATS_URL || "nats://localhost:4222";
process.on("uncaughtException", fail);
const nc = await connect({ ...connectionOptions(addresses), timeout: 5_000 });
const jsm = await nc.jetstreamManager();
const js = nc.jetstream();

// The stream stores every message whose subject begins with `events.`.
// `streams.add` does not change an existing stream: it succeeds if the
// settings are the same, and fails if they differ.
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// The consumer records on the server which messages are acked. It is
// _durable_: the next run continues where this one ends. Simultaneous
// runs share its messages. A message that is not acked within 30 s
// (`ack_wait`) is delivered again, to any of them.
const config = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };
await jsm.consumers.add("EVENTS", config);

// `publish` resolves when the stream has stored the message. All ten
// share one round trip, and are stored in the order of the calls.
const numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
await Promise.all(numbers.map((i) => js.publish(`events.${i}`, "data")));

// `consume` buffers up to `max_messages`. A message's 30 s also run in
// the buffer: lower the number if ten take longer. More are requested
// when all are handled: 0.5 stands for 0, which would mean the default.
const consumer = await js.consumers.get("EVENTS", "consumer");
const messages = await consumer.consume({
  max_messages: 10,
  threshold_messages: 0.5,
  abort_on_missing_resource: true,
});
// The loop throws if the consumer is deleted. With this line, it also
// throws when ten attempts to reconnect to each server have failed.
void nc.closed().then((err) => err && messages.stop(err));

// The loop waits for ten messages, whoever published them. After
// `stop`, it reads what is still buffered. The next run gets the rest.
// `ackAck` resolves when the server confirms the ack. A service calls
// `ack`, which does not wait: a lost ack only means redelivery.
const acks = [];
for await (const m of messages) {
  const payload = JSON.stringify(m.string());
  console.log(`got message on subject ${m.subject} with payload ${payload}`);
  acks.push(m.ackAck());
  if (acks.length === 10) messages.stop();
}
await Promise.all(acks);
await nc.close();

// `servers` takes only hosts and ports. The login is that of the first
// URL. If any scheme is not `nats://`, all use TLS.
function connectionOptions(addresses: string) {
  const urls = addresses
    .split(",")
    .map((a) => new URL(a.includes("://") ? a : `nats://${a.trim()}`));
  return {
    servers: urls.map((url) => url.host),
    user: decodeURIComponent(urls[0]?.username ?? ""),
    pass: decodeURIComponent(urls[0]?.password ?? ""),
    ...(urls.some((url) => url.protocol !== "nats:") && { tls: {} }),
  };
}

// A service omits this and its `process.on`: Node.js exits anyway.
function fail(err: Error & { chainedError?: Error }) {
  const hints: Record<string, string> = {
    "Invalid URL": "NATS_URL has to look like nats://localhost:4222",
    TIMEOUT: "no answer within 5 s, but the request may have been carried out",
    tls: "the server does not offer TLS",
    503: "JetStream is not enabled, or the stream or consumer was deleted",
  };
  const hint = err.chainedError?.message ?? hints[err.message];
  console.error((hint ? `${err.message}: ${hint}` : err.message).trim());
  process.exit(1);
}
