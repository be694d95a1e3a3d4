// JetStream stores messages on the server. A _pull consumer_ hands them out on
// request only: the client decides when messages come, and how many.
import { AckPolicy, connect, type NatsError } from "nats";

// Whatever fails below ends this program with one line, and with a hint where
// the error says too little. A service would log the error and go on instead.
process.on("uncaughtException", (err: Error & Partial<NatsError>) => {
  const hints: Record<string, string> = {
    "Invalid URL": "NATS_URL has to look like nats://localhost:4222",
    tls: "the server offers none",
    TIMEOUT: "no answer within 5 s, what was asked may have been done",
    503: "no JetStream (try nats-server -js), or stream or consumer is gone",
  };
  const hint = err.chainedError?.message ?? hints[err.message];
  console.error(hint ? `${err.message}: ${hint}` : err.message);
  process.exit(1);
});

// `NATS_URL` is one URL, or several with commas between them. The client takes
// only host and port from a URL, so the rest of the first one becomes options.
// The last option gives a server 5 s to answer, instead of 20.
const urls = (process.env.NATS_URL || "nats://localhost:4222").split(",");
const { username, password, protocol } = new URL(urls[0]!);
const nc = await connect({
  servers: urls.map((url) => new URL(url).host),
  user: decodeURIComponent(username),
  pass: decodeURIComponent(password),
  tls: protocol === "tls:" ? {} : undefined,
  timeout: 5_000,
});

// `jsm` manages streams and consumers, `js` publishes and reads. The stream
// keeps what is published to `events.>`, that is, to any subject that begins
// with `events.`. If the stream is there already, `add` changes nothing.
const jsm = await nc.jetstreamManager();
const js = nc.jetstream();
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// The consumer keeps, on the server, which messages are acked. A _durable_ one
// outlives the program: the next run goes on where this one ends, and several
// at once share the messages. A message not acked within 30 s comes again.
await jsm.consumers.add("EVENTS", {
  durable_name: "consumer",
  ack_policy: AckPolicy.Explicit,
});

// `publish` resolves when the server has stored the event. All ten are in
// flight together, so this takes one round trip instead of ten.
const numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
await Promise.all(numbers.map((i) => js.publish(`events.${i}`, "data")));

// `consume` fetches ahead of the loop: ten, and more only when these are read,
// so that none goes to a run that has had its ten. A service leaves out both
// numbers. The last option makes the loop fail when the consumer is deleted,
// `stop` when the connection is gone for good.
const consumer = await js.consumers.get("EVENTS", "consumer");
const messages = await consumer.consume({
  max_messages: 10,
  threshold_messages: 0.5,
  abort_on_missing_resource: true,
});
nc.closed().then((err) => err && messages.stop(err));

// The loop waits for ten messages, whoever sent them. A service would go on.
for await (const m of messages) {
  const payload = JSON.stringify(m.string());
  console.log(`got message on subject ${m.subject} with payload ${payload}`);
  m.ack();
  if (messages.getProcessed() === 10) break;
}

// `ack` does not wait for the server, `flush` does: it resolves when the server
// has processed what this connection sent, and fails if it breaks meanwhile.
await nc.flush();
await nc.close();
