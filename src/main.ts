import { AckPolicy, connect } from "nats";

// Connect to the servers in `NATS_URL`, separated by commas, or else to
// a local server. This connection uses no login.
const servers = (process.env.NATS_URL || "nats://localhost:4222").split(",");
const nc = await connect({ servers });

// Access JetStream: `jsm` manages it, `js` publishes and reads.
const jsm = await nc.jetstreamManager();
const js = nc.jetstream();

// Create a stream that stores messages on subjects that begin with
// `events.`, and keeps them after they are read. If the stream exists,
// `add` changes nothing, but throws if the settings differ.
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// Create a durable pull consumer on the stream. _Pull_: the client has
// to request messages. _Durable_: the server keeps the consumer between
// runs, with its record of which messages are acknowledged.
await jsm.consumers.add("EVENTS", {
  durable_name: "consumer",
  ack_policy: AckPolicy.Explicit,
});

// Publish ten messages. `publish` resolves when the message is stored.
for (let i = 0; i < 10; i++) {
  await js.publish(`events.${i}`, "data");
}

// Request messages. `consume` keeps requesting more: `max_messages`
// limits each request, not the total. If the stream or the consumer is
// deleted, `abort_on_missing_resource` makes the loop below throw.
// Without this option, the loop would keep waiting.
const consumer = await js.consumers.get("EVENTS", "consumer");
const messages = await consumer.consume({
  max_messages: 10,
  abort_on_missing_resource: true,
});

// Iterate over ten messages. They can include some that earlier runs
// left unacknowledged. `consume` runs on until `break` stops it.
let count = 0;
for await (const m of messages) {
  const payload = JSON.stringify(m.string());
  console.log(`got message on subject ${m.subject} with payload ${payload}`);
  // Acknowledge (ack) the message. Without an ack, it is sent again, by
  // default 30 s after each delivery. So it can arrive more than once.
  // `ackAck` waits for the server to confirm the ack, and throws after
  // 5 s without an answer. `ack` does not wait, which is faster.
  await m.ackAck();
  count++;
  if (count === 10) break;
}

await nc.close();
