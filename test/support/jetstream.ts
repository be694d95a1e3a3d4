import assert from "node:assert/strict";
import { connect } from "nats";
import type { NatsServer } from "./nats-server.ts";
import { until, type Program } from "./program.ts";

/**
 * Opens an administrator's connection to a server with JetStream, past every
 * relay. Gives it with its `jsm` and `js`; disposing of it closes it.
 */
export async function connectAdmin(server: NatsServer) {
  const nc = await connect({ servers: server.url });
  const [jsm, js] = [await nc.jetstreamManager(), nc.jetstream()];
  return { nc, jsm, js, [Symbol.asyncDispose]: () => nc.close() };
}

/**
 * Gives how many messages the stream EVENTS of a server with JetStream has
 * stored, and how many of them a consumer, by default the example's, has yet to
 * deliver, or to redeliver unless they are acked. What is not there counts 0.
 */
export async function stateOf(server: NatsServer, name = "consumer") {
  await using admin = await connectAdmin(server);
  const { consumers, streams } = admin.jsm;
  const stream = await streams.info("EVENTS").catch(() => null);
  const consumer = await consumers.info("EVENTS", name).catch(() => null);
  const { num_pending = 0, num_ack_pending = 0 } = consumer ?? {};
  const stored = stream?.state.messages ?? 0;
  return { stored, unacked: num_pending + num_ack_pending };
}

/**
 * Throws unless a server holds what it is to hold after the example has run:
 * the stream with `count` messages, the consumer with the settings that the
 * example gives it and the server's defaults, and all messages acked.
 */
export async function assertAllAcked(server: NatsServer, count: number) {
  assert.deepEqual(await stateOf(server), { stored: count, unacked: 0 });
  await using admin = await connectAdmin(server);
  const stream = await admin.jsm.streams.info("EVENTS");
  assert.deepEqual(stream.config.subjects, ["events.>"]);
  const consumer = await admin.jsm.consumers.info("EVENTS", "consumer");
  assert.equal(consumer.ack_floor.stream_seq, stream.state.last_seq);
  // Since 2.10 the server adds its own version.
  const { metadata: _, ...settings } = consumer.config;
  assert.deepEqual(settings, {
    name: "consumer",
    durable_name: "consumer",
    ack_policy: "explicit",
    ack_wait: 30_000_000_000,
    deliver_policy: "all",
    max_ack_pending: 1_000,
    max_deliver: -1,
    max_waiting: 512,
    num_replicas: 0,
    replay_policy: "instant",
  });
}

/**
 * Returns when pull requests wait at the server, by default one, at the
 * example's consumer. Throws if the program that is to send them ends before.
 */
export async function untilPullsWait(
  server: NatsServer,
  program: Program,
  { name = "consumer", count = 1 } = {},
) {
  const waits = async () => {
    await using admin = await connectAdmin(server);
    const { consumers } = admin.jsm;
    const info = await consumers.info("EVENTS", name).catch(() => null);
    return (info?.num_waiting ?? 0) >= count;
  };
  await until(`${count} pulls wait`, waits, program);
}

/**
 * Returns when a consumer has delivered all messages, and all are acked. Throws
 * if the program that is to ack them ends before.
 */
export async function untilAllAcked(
  server: NatsServer,
  program: Program,
  name: string,
) {
  const acked = async () => (await stateOf(server, name)).unacked === 0;
  await until("all is acked", acked, program);
}
