// Deletes a stream, with its messages and consumers, or one consumer only.
import { connectToNats, end } from "../service/connection.ts";

const [stream, consumer] = process.argv.slice(2);
if (!stream)
  end(new Error("name a stream, for example: npm run delete EVENTS"));

const nc = await connectToNats();
const jsm = await nc.jetstreamManager({ checkAPI: false });
if (consumer) await jsm.consumers.delete(stream, consumer).catch(end);
else await jsm.streams.delete(stream).catch(end);
console.log(`deleted ${consumer ?? stream}`);
process.exit();
