import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/**
 * Sees all data before it goes on, in order for each direction, one character
 * for each byte, and may hold it. `turn` counts how often the client has spoken
 * after the server. What it returns goes on instead; nothing, or "", drops it.
 */
export type Gate = (
  piece: { from: "client" | "server"; data: string; turn: number },
  relay: Relay,
) => string | void | Promise<string | void>;

export interface Relay extends AsyncDisposable {
  /** Where it listens, in the form that `NATS_URL` takes. */
  url: string;
  /** Breaks the connections that there are; new ones get through. */
  cut(): void;
  /** Breaks the connections that there are and refuses new ones. */
  close(): void;
}

/**
 * Starts a TCP relay on a free port of 127.0.0.1. Takes the port of 127.0.0.1
 * to which it leads, and the gate that all data passes through. Gives the relay,
 * ready for clients, and closed when it is disposed of. A server may deliver
 * the ten events in several pieces; the gate gets them in one.
 */
export async function startRelay(target: number, gate: Gate): Promise<Relay> {
  const open = new Set<Socket>();
  let turn = 0;
  let last = "server";

  function pass(from: "client" | "server", source: Socket, sink: Socket) {
    let held = "";
    let earlier = Promise.resolve();
    open.add(source);
    source.setNoDelay().setEncoding("latin1");
    source.on("data", (text: string) => {
      held += text;
      const events = held.split("\r\ndata\r\n").length - 1;
      if (held.includes("MSG events.") && events < 10) return;
      const data = held;
      held = "";
      // A server asks now and then whether its client is still there.
      if (data !== (from === "client" ? "PONG\r\n" : "PING\r\n")) {
        if (from === "client" && last === "server") turn++;
        last = from;
      }
      const piece = { from, data, turn };
      earlier = earlier.then(async () => {
        if (!open.has(source)) return;
        const passed = await gate(piece, relay);
        if (passed && open.has(sink)) sink.write(passed, "latin1");
      });
    });
    // A connection that breaks is what the tests are about: it breaks both.
    source.on("error", () => {});
    source.on("close", () => sink.destroy());
  }

  const listener = createServer((client) => {
    const server = connect(target, "127.0.0.1");
    pass("client", client, server);
    pass("server", server, client);
  });
  await once(listener.listen(0, "127.0.0.1"), "listening");
  const relay: Relay = {
    url: `nats://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    cut() {
      for (const socket of open) socket.destroy();
      open.clear();
    },
    close() {
      listener.close();
      relay.cut();
    },
    [Symbol.asyncDispose]: async () => relay.close(),
  };
  return relay;
}
