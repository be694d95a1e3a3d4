// Publishes ten messages and reads ten with a JetStream pull consumer.
import { AckPolicy, connect } from "nats";

// `NATS_URL` can name several servers, separated by commas. A login and
// TLS are options of `connect`, such as `user`, `pass` and `tls`.
const { NATS_URL } = process.env;
const servers = (NATS_URL || "nats://localhost:4222").split(",");
const nc = await connect({ servers });

const jsm = await nc.jetstreamManager();
const js = nc.jetstream();

// The stream stores each message whose subject begins with `events.`,
// and keeps it after it is acked. If the stream exists with the same
// settings, `add` changes nothing. If they differ, `add` throws.
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// Without a `deliver_subject`, this is a pull consumer: the server
// sends messages only when a client asks. With a `durable_name`, the
// server keeps the consumer between runs, and records which messages
// are acked, that is, handled. By default, a message is sent again if
// it is not acked within 30 s of delivery. So it can arrive twice.
await jsm.consumers.add("EVENTS", {
  durable_name: "consumer",
  ack_policy: AckPolicy.Explicit,
});

// `publish` resolves when the stream has stored the message.
for (let i = 0; i < 10; i++) {
  await js.publish(`events.${i}`, "data");
}

// `consume` keeps requesting messages while the loop reads them.
// `max_messages` is the most it requests in advance, not a total. If
// the stream or the consumer is deleted, `abort_on_missing_resource`
// makes the loop throw. Without this option, it would keep waiting.
const consumer = await js.consumers.get("EVENTS", "consumer");
const messages = await consumer.consume({
  max_messages: 10,
  abort_on_missing_resource: true,
});

// `consume` does not end by itself, so the loop leaves after ten
// messages. They can include messages that an earlier run did not ack.
let count = 0;
for await (const m of messages) {
  const payload = m.string();
  console.log(`got message on subject ${m.subject} with payload "${payload}"`);
  // `ackAck` waits for the server to confirm the ack, and throws if no
  // answer comes within 5 s. `ack` does not wait.
  await m.ackAck();
  count++;
  if (count === 10) break;
}

// `break` also stops `consume`. `close` lets the process end.
await nc.close();
