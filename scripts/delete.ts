// Deletes the stream EVENTS, with its messages and its consumers.
import { connectToNats, end } from "../service/connection.ts";

const nc = await connectToNats();
const jsm = await nc.jetstreamManager({ checkAPI: false });
await jsm.streams.delete("EVENTS").catch(end);
process.exit();
