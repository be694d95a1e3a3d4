// JetStream stores messages on the server. A _pull consumer_ delivers
// them on request: the client decides when to ask, and for how many.
import { AckPolicy, connect } from "nats";

// `NATS_URL` is one address, or several separated by commas. Errors
// that nothing catches go to `fail`, at the end of this file.
process.on("uncaughtException", fail);
const addresses = process.env.NATS_URL || "nats://localhost:4222";
const nc = await connect({ ...connectionOptions(addresses), timeout: 5_000 });

// The stream stores every message whose subject begins with `events.`.
// If it exists already, `add` does not change it: `add` succeeds if the
// settings are the same, and fails if they differ.
const jsm = await nc.jetstreamManager();
const js = nc.jetstream();
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// The consumer records on the server which messages are acked. It is
// _durable_: the next run continues where this one ends. Runs at the
// same time share it: each message is delivered to one of them. A
// message is redelivered every 30 s (`ack_wait`) until it is acked.
const config = { durable_name: "consumer", ack_policy: AckPolicy.Explicit };
await jsm.consumers.add("EVENTS", config);

// `publish` resolves when the stream has stored the message. All ten
// share one round trip, and are stored in the order of the calls.
const numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
await Promise.all(numbers.map((i) => js.publish(`events.${i}`, "data")));

// `consume` buffers up to `max_messages`. The 30 s of a message start
// when the server sends it: if ten take longer, lower the number. More
// are requested when at most `threshold_messages` are still to arrive:
// 0.5 means none, as 0 would mean the default. The loop throws if the
// consumer is deleted, or after ten failed attempts to reconnect.
const consumer = await js.consumers.get("EVENTS", "consumer");
const messages = await consumer.consume({
  max_messages: 10,
  threshold_messages: 0.5,
  abort_on_missing_resource: true,
});
void nc.closed().then((err) => err && messages.stop(err));

// The loop reads ten messages, whoever published them, and waits while
// there are fewer. Others are left to the next run. `ackAck` resolves
// when the server confirms the ack. A service sends `ack`, which is not
// confirmed: if it is lost, the message is redelivered.
const acks = [];
for await (const m of messages) {
  const payload = JSON.stringify(m.string());
  console.log(`got message on subject ${m.subject} with payload ${payload}`);
  acks.push(m.ackAck());
  if (acks.length === 10) messages.stop();
}
await Promise.all(acks);
await nc.close();

// The client itself uses only the host and port of a URL. The login is
// that of the first URL. If any scheme is not `nats://`, all use TLS.
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

// A service omits this: Node.js exits on an uncaught error anyway.
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
