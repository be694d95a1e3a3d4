// Publishes events until SIGTERM or Ctrl-C. Each is stored once, also through an
// outage of up to a minute. Needs connection.ts beside it.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { connectToNats, isNotFound, retry } from "./connection.ts";

const perSecond = 100;
const maxInFlight = 1_000;
const giveUpAfter = 60_000;

const inFlight = new Set<Promise<void>>();
let stored = 0;
let stopping = false;
process.once("SIGTERM", () => void stop());
process.once("SIGINT", () => void stop());

const nc = await connectToNats();
const jsm = await nc.jetstreamManager({ checkAPI: false });
await retry("find the stream", findStream);
const js = nc.jetstream();

for (let i = 0; !stopping; i++) {
  const job = publish(`events.${i}`, "50");
  inFlight.add(job);
  void job.then(() => inFlight.delete(job));
  if (inFlight.size === maxInFlight) await Promise.race(inFlight);
  await pause(1_000 / perSecond);
}

// A stream that is there already keeps its settings.
async function findStream() {
  try {
    await jsm.streams.info("EVENTS");
  } catch (err) {
    if (!isNotFound(err as Error)) throw err;
    await jsm.streams.add({ name: "EVENTS", subjects: ["events.>"] });
  }
}

// The stream remembers each `msgID` for two minutes (`duplicate_window`), so
// it stores the message once, however often it is sent in this time.
async function publish(subject: string, payload: string) {
  const msgID = randomUUID();
  const send = () => js.publish(subject, payload, { msgID });
  await retry("publish", send, giveUpAfter);
  stored++;
}

async function stop() {
  stopping = true;
  await Promise.all(inFlight);
  console.log(`stored ${stored} events`);
  process.exit();
}
