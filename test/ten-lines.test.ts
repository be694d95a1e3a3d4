// Runs before all other tests: they make no sense where this fails.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AckPolicy } from "nats";
import {
  connectAdmin,
  startNatsServer,
  stateOf,
} from "./support/nats-server.ts";
import { assertSuccess, run } from "./support/program.ts";

const { features } = process;
const stripsTypes = "typescript" in features && features.typescript;
const skipOld = !stripsTypes && "needs Node.js 22.18 or later";
for (const { command, skip } of [
  { command: "npx tsx src/main.ts", skip: false },
  { command: "node src/main.ts", skip: skipOld },
]) {
  test(`prints the ten lines, twice: ${command}`, { skip }, async () => {
    await using server = await startNatsServer();
    for (const ackedTo of [10, 20]) {
      assertSuccess(await run(command, { url: server.url }));
      assert.deepEqual(await stateOf(server), { stored: ackedTo, ackedTo });
    }
    await using admin = await connectAdmin(server);
    const { config } = await admin.jsm.consumers.info("EVENTS", "consumer");
    assert.equal(config.durable_name, "consumer");
    assert.equal(config.deliver_subject, undefined, "a pull consumer");
    assert.equal(config.ack_policy, AckPolicy.Explicit);
  });
}
