import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/**
 * Sees all data before it goes on, in order for each direction, and may hold it
 * by returning a promise.
 *
 * @param from who sent the data
 * @param data one character for each byte (latin1)
 * @param relay the relay itself, to cut or close it
 * @returns what goes on instead of the data; nothing, or "", drops it
 */
export type Gate = (
  from: "client" | "server",
  data: string,
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
 * Starts a TCP relay on a free port of 127.0.0.1. It is closed when it is
 * disposed of.
 *
 * @param target the port of 127.0.0.1 to which it leads
 * @param gate what all data passes through
 * @returns the relay, ready for clients
 */
export async function startRelay(target: number, gate: Gate): Promise<Relay> {
  const open = new Set<Socket>();
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
    async [Symbol.asyncDispose]() {
      relay.close();
    },
  };

  function pass(from: "client" | "server", source: Socket, sink: Socket) {
    let earlier = Promise.resolve();
    open.add(source);
    source.setNoDelay().setEncoding("latin1");
    source.on("data", (data: string) => {
      earlier = earlier.then(async () => {
        if (!open.has(source)) return;
        const passed = await gate(from, data, relay);
        if (passed && open.has(sink)) sink.write(passed, "latin1");
      });
    });
    // A connection that breaks is what the tests are about: it breaks both.
    source.on("error", () => {});
    source.on("close", () => sink.destroy());
  }

  return relay;
}

/**
 * Makes a gate that lets through everything but the ten events: a server may
 * deliver them in several pieces, and the gate hands them over in one.
 *
 * @param next the gate behind it
 * @returns the gate
 */
export function eventsInOnePiece(next: Gate): Gate {
  let held = "";
  return (from, data, relay) => {
    if (from === "client" || !(held + data).includes("MSG events.")) {
      return next(from, data, relay);
    }
    held += data;
    const events = held.match(/MSG events\.\d .*\r\ndata\r\n/g) ?? [];
    if (events.length < 10) return;
    data = held;
    held = "";
    return next(from, data, relay);
  };
}
