// Publishes ten messages and reads them with a JetStream pull consumer.
import { AckPolicy, connect } from "nats";

// `NATS_URL` can name several servers, separated by commas. A login and
// TLS are options of `connect`, such as `user`, `pass` and `tls`.
const { NATS_URL } = process.env;
const servers = (NATS_URL || "nats://localhost:4222").split(",");
const nc = await connect({ servers });

const jsm = await nc.jetstreamManager();
const js = nc.jetstream();

// The stream stores each message whose subject begins with `events.`,
// and keeps it, acked or not. If the stream exists with the same
// settings, `add` changes nothing. If they differ, `add` throws.
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// Without a `deliver_subject`, this is a pull consumer: the server only
// sends messages when a client asks for them. With a `durable_name`,
// the server keeps the consumer between runs, and records which
// messages are acked. By default, it sends a message again if it is not
// acked within 30 s of delivery.
await jsm.consumers.add("EVENTS", {
  durable_name: "consumer",
  ack_policy: AckPolicy.Explicit,
});

// `publish` resolves when the stream has stored the message.
for (let i = 0; i < 10; i++) {
  await js.publish(`events.${i}`, "data");
}

// `consume` requests messages as the loop uses them up. `max_messages`
// is how many it requests ahead of the loop, not a total. If the stream
// or the consumer is deleted, `abort_on_missing_resource` makes the
// loop throw. Without this option, the loop would keep waiting.
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
  // `ackAck` waits until the server confirms the ack, and throws if it
  // does not. `ack` does not wait.
  await m.ackAck();
  count++;
  if (count === 10) break;
}

// `break` stopped `consume`. `close` lets the process end.
await nc.close();
