// What the example does when the connection or the server goes away. Some of
// these tests wait for the 30 s of `ack_wait` or the 20 s of reconnecting, so
// they all run side by side.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  assertAllAcked,
  assertFails,
  assertOneLine,
  assertTenLines,
  manage,
  runExample,
  startExample,
  tenLines,
} from "./example.ts";
import { startNatsServer } from "./nats-server.ts";
import { eventsInOnePiece, startRelay, type Gate } from "./relay.ts";

type Moment = (from: "client" | "server", data: string) => boolean;

const sendsAcks: Moment = (from, data) =>
  from === "client" && data.includes("PUB $JS.ACK.");

// Each is made anew for a test, since some of them count.
const moments: Record<string, () => Moment> = {
  "the events are on their way": () => (_, data) =>
    data.includes("MSG events."),
  "the acks are on their way": () => sendsAcks,
  "the acks are being confirmed": () => {
    let sent = false;
    return (from, data) =>
      (sent ||= sendsAcks(from, data)) && from === "server";
  },
  // The first PING is part of connecting, the other two of draining.
  "the connection begins to drain": () => nthPing(2),
  "the connection has almost drained": () => nthPing(3),
};

function nthPing(n: number): Moment {
  let pings = 0;
  return (from, data) => {
    if (from === "client") pings += data.split("PING\r\n").length - 1;
    return pings >= n;
  };
}

/** Passes everything until `moment`, then cuts or closes the relay, once. */
function gateUntil(moment: Moment, end: "cut" | "close"): Gate {
  let ended = false;
  return eventsInOnePiece((from, data, relay) => {
    if (ended || !moment(from, data)) return data;
    ended = true;
    relay[end]();
  });
}

/** Runs the example through `gate`, and asserts that all ends well. */
async function assertChangesNothing(gate: Gate) {
  await using server = await startNatsServer();
  await using relay = await startRelay(server.port, gate);
  assertTenLines(await runExample(relay.url));
  await assertAllAcked(server, 10);
}

describe("a connection that breaks", { concurrency: true }, () => {
  for (const [name, moment] of Object.entries(moments)) {
    test(`for a moment, while ${name}, changes nothing`, () =>
      assertChangesNothing(gateUntil(moment(), "cut")));
  }

  test("for a moment, between two events, changes nothing", async () => {
    let state = "whole";
    const gate = eventsInOnePiece((from, data, relay) => {
      const rest = data.indexOf("MSG events.4");
      if (state === "whole" && rest >= 0) {
        state = "breaking";
        return data.slice(0, rest);
      }
      if (state !== "breaking") return data;
      // The acks of the first four are lost, as are the events after them.
      if (from === "client") {
        state = "mended";
        relay.cut();
      }
    });
    await assertChangesNothing(gate);
  });

  for (const name of [
    "the events are on their way",
    "the acks are on their way",
  ]) {
    test(`for good, while ${name}, is one line`, async () => {
      await using server = await startNatsServer();
      const gate = gateUntil(moments[name]!(), "close");
      await using relay = await startRelay(server.port, gate);
      const outcome = await runExample(relay.url);
      assertOneLine(outcome, "connection lost for good", "comes again");
      // The messages are there, and the next run gets them when they are due.
      await using jsm = await manage(server);
      const consumer = await jsm.consumers.info("EVENTS", "consumer");
      assert.equal(consumer.num_ack_pending, 10);
    });
  }

  test("for good, while it drains, comes too late to matter", () =>
    assertChangesNothing(gateUntil(nthPing(2), "close")));

  test("before the events are stored is one line", async () => {
    await using server = await startNatsServer();
    const gate = gateUntil((_, data) => data.includes("PUB events.0"), "cut");
    await using relay = await startRelay(server.port, gate);
    const outcome = await runExample(relay.url);
    assertFails(outcome, "no answer in time", "may or may not");
  });

  test("with a run killed before it acks loses no message", async () => {
    await using server = await startNatsServer();
    const gate = eventsInOnePiece((from, data) => {
      if (sendsAcks(from, data)) killed.child.kill("SIGKILL");
      else return data;
    });
    await using relay = await startRelay(server.port, gate);
    const killed = startExample(relay.url);
    assert.equal((await killed.ended).code, null);
    await using jsm = await manage(server);
    const state = () => jsm.consumers.info("EVENTS", "consumer");
    assert.equal((await state()).num_ack_pending, 10);

    // Until they are due, the next run has its own ten.
    assertTenLines(await runExample(server.url));
    assert.equal((await state()).num_ack_pending, 10);

    // As soon as the first is due, put it back, behind the other nine.
    const consumer = await jsm.jetstream().consumers.get("EVENTS", "consumer");
    const due = await consumer.next({ expires: 40_000 });
    assert.equal(due?.seq, 1);
    due.nak();
    const { code, stdout } = await runExample(server.url);
    assert.equal(code, 0);
    assert.deepEqual(stdout.split("\n").sort(), ["", ...tenLines]);
    const { ack_floor, num_ack_pending, num_pending } = await state();
    assert.equal(ack_floor.stream_seq, 20);
    assert.equal(num_ack_pending, 0);
    assert.equal(num_pending, 10);
  });
});
