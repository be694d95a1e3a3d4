// JetStream is the part of a NATS server that stores messages, in _streams_. A
// _pull consumer_ hands them out when a client asks, as many as it asks for.
// This example stores ten events, reads them through a pull consumer and
// acknowledges each. It prints ten lines, however often it is run.
import { AckPolicy, connect, ErrorCode, NatsError } from "nats";
import type { JsMsg, Msg } from "nats";

// `NATS_URL` names the server, or several separated by commas, of which one
// that answers is enough. The client makes no use of credentials in it. They
// are taken out, so that no message can show them.
const servers = (process.env.NATS_URL || "nats://localhost:4222")
  .replace(/((?!,\s*\w+:\/\/).)*@/gs, "")
  .split(",");

// Whatever goes wrong from here on, `explain`, at the foot of this file, puts
// it in one line.
process.on("uncaughtException", explain);

// Everything travels over one connection.
const nc = await connect({ servers });

// `jsm` manages streams and consumers, `js` publishes and reads. Checking first
// that the server has JetStream would take a round trip, and the next call
// finds out anyway.
const jsm = await nc.jetstreamManager({ checkAPI: false });
const js = nc.jetstream();

// The stream `EVENTS` keeps what is published to any subject that begins with
// `events.`, whether or not somebody is reading. A second run finds it there
// and changes nothing. If it is there with other settings, `add` fails.
await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });

// The consumer is the server's record of what has been read. This one is
// _durable_: it has a name and outlives the program, so the next run goes on
// where this one ends, and runs at the same time share the messages. _Explicit_
// acks mean that a message counts as read once its reader has said so. If that
// takes longer than 30 s, the server hands the message out again.
const info = await jsm.consumers.add("EVENTS", {
  durable_name: "consumer",
  ack_policy: AckPolicy.Explicit,
});

// `publish` resolves when the server has stored the event. All ten are sent
// before the first is confirmed, so this takes one round trip instead of ten.
// They are stored in the order in which they are sent.
await Promise.all(
  Array.from({ length: 10 }, (_, i) => js.publish(`events.${i}`, "data")),
);

// What `add` returned is all that it takes to read from the consumer. `consume`
// fetches messages before the loop below asks for them: here ten, and more only
// when none of them is left (a threshold of 0 would mean the default, 75 %), so
// that a program that stops after ten keeps none from others. Leave out both
// numbers in a service that goes on reading. The last option makes the loop
// fail, instead of wait, when the consumer or the stream is deleted.
const messages = await js.consumers.getPullConsumerFor(info).consume({
  max_messages: 10,
  threshold_messages: 0.5,
  abort_on_missing_resource: true,
});

// When the connection breaks, the client reconnects and the loop goes on. But
// after some 20 s without a server the client gives up, and the loop would wait
// for ever if nobody stopped it. Every loop over `consume` needs this.
nc.closed().then(() => {
  messages.stop(NatsError.errorForCode(ErrorCode.ConnectionClosed));
});

// A message comes again if its ack was lost. Its sequence number in the stream
// tells: then it is acked again, but not printed again.
const received = new Map<number, JsMsg>();
for await (const m of messages) {
  if (!received.has(m.seq)) {
    const payload = JSON.stringify(m.string());
    console.log(`got message on subject ${m.subject} with payload ${payload}`);
  }
  m.ack();
  received.set(m.seq, m);
  if (received.size === 10) break;
}

// `ack` does not wait for an answer, and if the connection broke, some acks may
// be lost. A service can live with that, since such messages come again. This
// program is about to end, so it makes sure: it repeats each ack as a request,
// until the server has answered.
async function confirm(m: JsMsg): Promise<void> {
  try {
    await nc.request((m as JsMsg & Msg).reply!, "+ACK", { timeout: 2_000 });
  } catch (err) {
    if ((err as NatsError).code !== ErrorCode.Timeout) throw err;
    await confirm(m);
  }
}
await Promise.all([...received.values()].map(confirm));

// `drain` sends what is still to be sent and closes the connection. Should the
// connection break at this point, it would return without having closed it, and
// the client would go on reconnecting.
await nc.drain();
await nc.close();

// One line on stderr, and exit code 1. The server's own words come first. Where
// there are none, or they say too little, it is a hint.
function explain(
  err: Error & { code?: string; api_error?: { description: string } },
): void {
  const hints: Record<string, string> = {
    ERR_INVALID_URL: "this does not name a server",
    CONNECTION_REFUSED: "connection refused, is a NATS server running there?",
    CONNECTION_CLOSED: "connection lost for good, what is unacked comes again",
    AUTHORIZATION_VIOLATION:
      "refused for lack of credentials, give valid ones to connect in main.ts",
    TIMEOUT: "no answer in time, what was asked may or may not have been done",
    503: "JetStream is not enabled (try nats-server -js), or consumer is gone",
    409: "consumer deleted, its events remain, unless the stream is gone too",
  };
  const hint = hints[err.code ?? ""] ?? err.message;
  const reason = err.api_error?.description ?? hint;
  console.error(`NATS_URL "${servers}": ${reason}`.replace(/\s+/g, " "));
  process.exit(1);
}
