// grpc.health.v1: whether the server and each of its services can be used. All of them are in the same state,
// since they stand and fall with one broker.
import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf';
import { BrokerError } from '../../core/errors.ts';
import { quote } from '../../core/names.ts';
import { HEALTH_SERVICE, healthDescriptor, methodOf } from './grpc-descriptors.ts';
import { type GrpcService, grpcService, type RpcBorder } from './rpc.ts';
import { ChangeFlag } from './watch.ts';

/** HealthCheckResponse.ServingStatus */
const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;

type Dynamic = MessageInitShape<DescMessage>;
type CheckRequest = { readonly service: string };

export class Health {
  readonly service: GrpcService;
  readonly #names: ReadonlySet<string>;
  readonly #watchers = new Set<ChangeFlag>();
  #status = NOT_SERVING;

  /** `names`: full names of the services to report; the server as a whole is "". */
  constructor(border: RpcBorder, names: readonly string[]) {
    this.#names = new Set(['', HEALTH_SERVICE, ...names]);
    const descriptor = healthDescriptor();
    this.service = grpcService(descriptor, {
      check: border.unary(methodOf(descriptor, 'Check', 'unary'), (request) =>
        this.#check((request as unknown as CheckRequest).service),
      ),
      list: border.unary(methodOf(descriptor, 'List', 'unary'), () => this.#list()),
      watch: border.serverStream(
        methodOf(descriptor, 'Watch', 'server_streaming'),
        (request, stream, { signal }) =>
          this.#watch((request as unknown as CheckRequest).service, (status) => stream.send(status), signal),
      ),
    });
  }

  setServing(serving: boolean): void {
    this.#status = serving ? SERVING : NOT_SERVING;
    for (const watcher of this.#watchers) watcher.raise();
  }

  #check(name: string): Dynamic {
    if (this.#names.has(name)) return { status: this.#status } as Dynamic;
    throw new BrokerError('NOT_FOUND', `there is no service ${quote(name)} here`);
  }

  #list(): Dynamic {
    const entries = [...this.#names].map((name) => [name, { status: this.#status }]);
    return { statuses: Object.fromEntries(entries) } as Dynamic;
  }

  async #watch(name: string, send: (status: Dynamic) => Promise<void>, signal: AbortSignal): Promise<void> {
    const changed = new ChangeFlag();
    this.#watchers.add(changed);
    try {
      let sent: number | undefined;
      while (!signal.aborted) {
        const status = this.#names.has(name) ? this.#status : SERVICE_UNKNOWN;
        if (status !== sent) await send({ status } as Dynamic);
        sent = status;
        await changed.wait(signal);
      }
    } finally {
      this.#watchers.delete(changed);
    }
  }
}
