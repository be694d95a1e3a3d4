import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { freePort } from "./nats-server.ts";

export type Side = "client" | "server";

/**
 * Starts a TCP relay on 127.0.0.1. Takes the port of 127.0.0.1 to which it
 * leads, and what is called with each chunk of data as it arrives, one character
 * for each byte. What that gives goes on instead, in the same order; nothing, or
 * "", goes nowhere. Gives the relay, ready for clients; disposing of it breaks
 * its connections.
 */
export async function startRelay(
  target: number,
  intercept = async (data: string, _from: Side): Promise<string | void> => data,
) {
  const sockets = new Set<Socket>();
  const dead = new Set<Socket>();

  function forward(from: Side, source: Socket, sink: Socket) {
    let earlier = Promise.resolve();
    sockets.add(source);
    source.setNoDelay().setEncoding("latin1");
    source.on("data", (data: string) => {
      if (dead.has(source)) return;
      const result = intercept(data, from);
      earlier = earlier.then(async () => {
        const passed = await result;
        if (passed && !dead.has(sink)) sink.write(passed, "latin1");
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
    /** The connections that there are pass on nothing more, but stay open. */
    goDead() {
      for (const socket of sockets) dead.add(socket);
    },
    /** Breaks the connections that there are, and for good refuses new ones. */
    cut(time: "for a moment" | "for good") {
      if (time === "for good") listener.close();
      relay.goDead();
      for (const socket of sockets) socket.destroy();
    },
    [Symbol.asyncDispose]: async () => relay.cut("for good"),
  };
  return relay;
}
