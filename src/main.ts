// A JetStream _stream_ stores messages on the server. A _consumer_,
// also kept on the server, records which of them are _acked_, that is,
// confirmed as handled. A _pull_ consumer delivers when a client asks.
import { AckPolicy, connect } from "nats";

// Every error ends in `fail`, at the end of this file, also that of an
// ack that is refused while the loop still waits for messages.
process.on("uncaughtException", fail);

// `NATS_URL` is one address, or several separated by commas. `timeout`
// limits the wait for a server's first answer to 5 s.
const addresses = process.env.NATS_URL || "nats://localhost:4222";
const nc = await connect({ ...connectionOptions(addresses), timeout: 5_000 });

// The client reconnects by itself. It gives up after ten attempts for
// each server, some 20 s. The loop does not notice that: this does.
void nc.closed().then((err) => {
  if (err) fail(err);
});

// `jsm` manages streams and consumers, `js` publishes and reads.
const jsm = await nc.jetstreamManager();
const js = nc.jetstream();

// The stream stores every message whose subject begins with `events.`.
// `add` does not change an existing stream: it succeeds if the settings
// are the same, and fails if they differ.
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// The consumer is _durable_: the next run continues where this one
// ends. When several run at once, each message goes to one of them. If
// it is not acked within 30 s (`ack_wait`), it is redelivered to any.
await jsm.consumers.add("EVENTS", {
  durable_name: "consumer",
  ack_policy: AckPolicy.Explicit,
});

// `publish` resolves when the stream has stored the message. All ten
// are sent before the first answer is here, and stored in this order.
const numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
await Promise.all(numbers.map((i) => js.publish(`events.${i}`, "data")));

// `add` has returned a description. `get` returns what can read.
const consumer = await js.consumers.get("EVENTS", "consumer");

// By default, `consume` requests more when two of ten are handled. Of
// those, the ones that this run does not read are redelivered only 30 s
// later. The threshold 0.5 means: when none is left. 0 means "default".
// If the consumer is deleted, `abort_on_missing_resource` makes the
// loop throw.
const messages = await consumer.consume({
  max_messages: 10,
  threshold_messages: 0.5,
  abort_on_missing_resource: true,
});

// The loop waits for ten messages, whoever published them. `stop` ends
// it, after the messages that have already arrived. `ack` only sends an
// ack. The promise of `ackAck` resolves when the server confirms it.
const acks: Promise<boolean>[] = [];
for await (const m of messages) {
  const payload = JSON.stringify(m.string());
  console.log(`got message on subject ${m.subject} with payload ${payload}`);
  acks.push(m.ackAck());
  if (acks.length === 10) messages.stop();
}
await Promise.all(acks);
await nc.close();

// The login is that of the first address that has one. A name without a
// password is sent as a token, too. All connections are encrypted if
// one address begins with `tls://`, or another scheme but `nats://`.
function connectionOptions(addresses: string) {
  const urls = addresses
    .split(",")
    .map((a) => new URL(a.includes("://") ? a : `nats://${a.trim()}`));
  const servers = urls.map((url) => url.host);
  const login = urls.find((url) => url.username);
  const user = decodeURIComponent(login?.username ?? "");
  const pass = decodeURIComponent(login?.password ?? "");
  const tls = urls.some((url) => url.protocol !== "nats:") && { tls: {} };
  return { servers, user, pass, token: pass ? "" : user, ...tls };
}

// `hints` explains the messages that say too little by themselves.
function fail(err: Error & { chainedError?: Error }) {
  const hints: Record<string, string> = {
    "Invalid URL": "NATS_URL has to look like nats://localhost:4222",
    TIMEOUT: "no answer within 5 s, but the request may have been carried out",
    tls: "the server does not offer TLS",
    503: "JetStream is not enabled, or the stream or consumer was deleted",
  };
  const detail = err.chainedError?.message ?? hints[err.message];
  console.error((detail ? `${err.message}: ${detail}` : err.message).trim());
  process.exit(1);
}
