import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { freePort } from "./nats-server.ts";

export type Side = "client" | "server";

/**
 * Starts a TCP relay on 127.0.0.1. Takes the port of 127.0.0.1 to which it
 * leads; and a side, a pattern, and what is called with the first that this side
 * sends and that matches, one character for each byte, before the other side
 * gets it. What that gives goes on instead; nothing goes nowhere. Gives the
 * relay, ready for clients; disposing of it breaks its connections.
 */
export async function startRelay(
  target: number,
  from: Side,
  pattern: RegExp,
  act: (data: string) => Promise<string | void>,
) {
  const sockets = new Set<Socket>();
  let hasActed = false;

  function forward(side: Side, source: Socket, sink: Socket) {
    let earlier: Promise<unknown> = Promise.resolve();
    sockets.add(source);
    source.setNoDelay().setEncoding("latin1");
    source.on("data", (data: string) => {
      const isFirst = !hasActed && side === from && pattern.test(data);
      hasActed ||= isFirst;
      const result = isFirst ? act(data) : data;
      earlier = earlier.then(async () => {
        const passed = await result;
        if (passed && sockets.has(source)) sink.write(passed, "latin1");
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
  await once(listener.listen(port, "127.0.0.1"), "listening");
  const relay = {
    /** Where it listens, in the form that `NATS_URL` takes. */
    url: `nats://127.0.0.1:${port}`,
    /** Breaks the connections that there are, and for good refuses new ones. */
    cut(time: "for a moment" | "for good") {
      if (time === "for good") listener.close();
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
    [Symbol.asyncDispose]: async () => relay.cut("for good"),
  };
  return relay;
}
