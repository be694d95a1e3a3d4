import { once } from "node:events";
import { createServer } from "node:net";

// Each test file has its own process, and so its own ports.
let next = 10_000 + (process.pid % 40) * 500;

/**
 * Gives a port of 127.0.0.1 on which nothing listens. It is none of those that
 * the system picks by itself, so it stays free while its server is away.
 */
export async function freePort(): Promise<number> {
  const port = next++;
  const server = createServer().listen(port, "127.0.0.1");
  const free = await once(server, "listening").catch(() => null);
  if (!free) return freePort();
  server.close();
  await once(server, "close");
  return port;
}
