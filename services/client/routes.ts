// The routing table of a topic, kept up to date: which broker owns which partition. Without an answer (an
// older broker, no permission) there is none, and brokers are left to find the owners.
import { Backoff } from './backoff.ts';
import type { Connection } from './connection.ts';
import { FanfareError, toFanfareError } from './errors.ts';
import { writeText } from './message-codec.ts';
import { BYTES, WireReader } from './wire.ts';

const PATH = '/fanfare.v1.Routing/WatchRoutes';

/** Codes after which trying again cannot help: there will be no table. */
const FINAL_CODES = new Set([
  'UNIMPLEMENTED',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'INVALID_ARGUMENT',
  'NOT_FOUND',
]);

/** The owner of each partition, in order, as host:port; undefined: nobody owns it just now. */
export type RouteTable = readonly (string | undefined)[];

export interface RouteListener {
  /** There is a new table, different from the one before. */
  onTable(table: RouteTable): void;
  /** There is no table and there will be none; NOT_FOUND: because there is no such topic (any more). */
  onNone(error: FanfareError): void;
}

export class RouteWatch {
  readonly #connection: Connection;
  readonly #request: Buffer;
  readonly #listener: RouteListener;
  readonly #backoff: Backoff;
  #table: RouteTable = [];
  #stream: ReturnType<Connection['openReadStream']> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  /** `topic` is a full name. */
  constructor(connection: Connection, topic: string, listener: RouteListener) {
    this.#connection = connection;
    this.#request = encodeWatch(topic);
    this.#listener = listener;
    this.#backoff = new Backoff(connection.backoffDefaults);
    this.#open();
  }

  /** Idempotent. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#stream?.cancel();
  }

  #open(): void {
    const stream = this.#connection.openReadStream(PATH, this.#request);
    this.#stream = stream;
    stream.on('data', (bytes: Buffer) => {
      if (this.#closed) return;
      this.#backoff.reset();
      let table: RouteTable;
      try {
        table = decodeRoutes(bytes);
      } catch (error) {
        this.#listener.onNone(toFanfareError(error));
        this.close();
        return;
      }
      const isSame = table.length === this.#table.length && table.every((at, i) => at === this.#table[i]);
      this.#table = table;
      if (!isSame) this.#listener.onTable(table);
    });
    stream.on('error', () => {});
    stream.on('status', (status) => {
      if (this.#closed) return;
      const error =
        status.code === 0
          ? new FanfareError('UNAVAILABLE', 'the broker ended the stream')
          : toFanfareError(status);
      if (FINAL_CODES.has(error.code)) this.#listener.onNone(error);
      else this.#retry = setTimeout(() => this.#open(), this.#backoff.nextMs());
    });
  }
}

/** WatchRoutesRequest: topic = 1. */
function encodeWatch(topic: string): Buffer {
  const bytes = Buffer.byteLength(topic);
  const request = Buffer.alloc(bytes + 6);
  return request.subarray(0, writeText(request, 0, 0x0a, topic, bytes));
}

/** WatchRoutesResponse: routes = 1 {partition = 1, address = 2, owner_epoch = 3}. */
function decodeRoutes(bytes: Buffer): RouteTable {
  const table: (string | undefined)[] = [];
  const reader = new WireReader(bytes);
  while (reader.next()) {
    if (reader.field !== 1 || reader.wireType !== BYTES) {
      reader.skip();
      continue;
    }
    const end = reader.lengthDelimitedEnd();
    let partition = 0;
    let address = '';
    const route = new WireReader(bytes, reader.position, end);
    while (route.next()) {
      if (route.field === 1) partition = route.varint();
      else if (route.field === 2 && route.wireType === BYTES) {
        const addressEnd = route.lengthDelimitedEnd();
        address = bytes.toString('utf8', route.position, addressEnd);
        route.position = addressEnd;
      } else route.skip();
    }
    reader.position = end;
    // routing.proto: "One for each partition, in order."
    if (partition !== table.length)
      throw new FanfareError('INTERNAL', 'the broker sent a routing table with a gap');
    table.push(address === '' ? undefined : address);
  }
  return table;
}
