// Prints how many messages a stream holds, and how far each of its consumers
// has come.
import { connectToNats, end } from "../service/connection.ts";

const [stream] = process.argv.slice(2);
if (!stream) end(new Error("name a stream, for example: npm run state EVENTS"));

const nc = await connectToNats();
const jsm = await nc.jetstreamManager({ checkAPI: false });
const { state } = await jsm.streams.info(stream).catch(end);
console.log(`The stream ${stream} holds ${state.messages} messages.`);
for await (const info of jsm.consumers.list(stream)) {
  console.log(`The consumer ${info.name}:`);
  console.log(`- not delivered yet (num_pending): ${info.num_pending}`);
  console.log(
    `- delivered, not acked (num_ack_pending): ${info.num_ack_pending}`,
  );
  console.log(
    `- of these, redelivered (num_redelivered): ${info.num_redelivered}`,
  );
  console.log(`- requests that wait (num_waiting): ${info.num_waiting}`);
}
process.exit();
