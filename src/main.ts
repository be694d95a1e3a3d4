// A JetStream _stream_ stores messages on the server. A _consumer_,
// also kept there, records which of them are _acked_: confirmed as
// handled. A _pull consumer_ sends messages only when a client asks.
import { AckPolicy, connect } from "nats";

// Every error ends in `fail`, at the end of this file. This includes an
// ack that is refused while the loop still waits for messages.
process.on("uncaughtException", fail);

// `NATS_URL` is one address, or several separated by commas.
const { NATS_URL } = process.env;
const addresses = NATS_URL || "nats://localhost:4222";
const nc = await connect({ ...connectionOptions(addresses), timeout: 5_000 });

// The client reconnects by itself. After ten attempts for each server,
// some 20 s, it gives up. The loop would then wait for ever.
void nc.closed().then((err) => {
  if (err) fail(err);
});

// `jsm` manages streams and consumers, `js` publishes and reads.
const jsm = await nc.jetstreamManager();
const js = nc.jetstream();

// The stream stores every message whose subject begins with `events.`.
// If it exists already, `add` succeeds if the settings are the same,
// and fails if they differ. (Of a consumer, server 2.9 changes them.)
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// The consumer is _durable_: the next run goes on where this one ended.
// Several runs at a time share it: each message goes to one of them. If
// a message is not acked within 30 s, the server redelivers it, to any
// run. So a message can be handled twice.
await jsm.consumers.add("EVENTS", {
  durable_name: "consumer",
  ack_policy: AckPolicy.Explicit,
});
const consumer = await js.consumers.get("EVENTS", "consumer");

// `publish` resolves when the stream has stored the message. The ten
// are sent without waiting in between, and stored in the same order.
const numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
await Promise.all(numbers.map((i) => js.publish(`events.${i}`, "data")));

// By default, `consume` requests more when two of ten are handled. The
// server would send this run messages that it no longer reads, and
// redeliver them to another run only after 30 s. The threshold counts
// messages still to come: below 1 means none. (0 would mean the
// default.) `abort_on_missing_resource` makes the loop throw if the
// stream or the consumer is deleted. Otherwise, it would wait.
const messages = await consumer.consume({
  max_messages: 10,
  threshold_messages: 0.5,
  abort_on_missing_resource: true,
});

// The loop waits for ten messages, whoever published them. `stop` lets
// it finish those that have arrived; after a reconnect, perhaps more.
const acks: Promise<boolean>[] = [];
for await (const m of messages) {
  const payload = JSON.stringify(m.string());
  console.log(`got message on subject ${m.subject} with payload ${payload}`);
  // `m.ack()` only sends an ack. The promise of `m.ackAck()` resolves
  // when the server has confirmed it.
  acks.push(m.ackAck());
  if (acks.length === 10) messages.stop();
}
await Promise.all(acks);
await nc.close();

// All servers get the login of the first address that has one. A name
// without a password is sent both as user and as token. If an address
// has another scheme than `nats://`, all connections use TLS.
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

// `hints` explains error messages that say too little by themselves.
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
