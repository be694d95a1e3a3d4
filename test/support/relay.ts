import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { freePort } from "./nats-server.ts";

export type Side = "client" | "server";

/**
 * Starts a TCP relay on 127.0.0.1. Takes the port of 127.0.0.1 to which it
 * leads; and a side, a pattern, and what is called when this side first sends
 * what matches, before the other side gets it. If that gives "lost", the other
 * side never gets it. Gives the relay, ready for clients; disposing of it breaks
 * its connections.
 */
export async function startRelay(
  target: number,
  from: Side,
  pattern: RegExp,
  act: () => Promise<unknown>,
) {
  const sockets = new Set<Socket>();

  function forward(side: Side, source: Socket, sink: Socket) {
    let earlier: Promise<unknown> = Promise.resolve();
    sockets.add(source);
    source.setNoDelay().setEncoding("latin1");
    source.on("data", (data: string) => {
      const isFirst = !relay.hasActed && side === from && pattern.test(data);
      relay.hasActed ||= isFirst;
      const result = isFirst && act();
      earlier = earlier.then(async () => {
        const isLost = (await result) === "lost" || !sockets.has(source);
        if (!isLost) sink.write(data, "latin1");
      });
    });
    // A connection that breaks is what the tests are about: it breaks both.
    source.on("error", () => {});
    source.on("close", () => sink.destroy());
  }

  const listener = createServer((client) => {
    const server = connect(target, "127.0.0.1");
    forward("client", client, server);
    forward("server", server, client);
  });
  const port = await freePort();
  const relay = {
    /** Where it listens, in the form that `NATS_URL` takes. */
    url: `nats://127.0.0.1:${port}`,
    hasActed: false,
    /** Breaks the connections that there are, and for good refuses new ones. */
    cut(time: "for a moment" | "for good") {
      if (time === "for good") listener.close();
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
    [Symbol.asyncDispose]: async () => relay.cut("for good"),
  };
  await once(listener.listen(port, "127.0.0.1"), "listening");
  return relay;
}
