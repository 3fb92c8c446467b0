// The brokers behind a client: who is alive, who owns what, who shall give its partitions away. Any broker
// answers. Every method fails with a FanfareError; cluster.proto says which.
import type { ClusterInfo } from './cluster-types.ts';
import type { CallSettings, Connection } from './connection.ts';
import { resourceName } from './option-rules.ts';
import { flag } from './options.ts';

export class Cluster {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** The cluster as the broker that answers sees it; with `partitions`, every partition of every topic. */
  async get(options: { readonly partitions?: boolean } & CallSettings = {}): Promise<ClusterInfo> {
    const { partitions = false, ...call } = options;
    flag('partitions', partitions);
    const codec = await loadCodec();
    const request = codec.encodeGetCluster(partitions);
    return codec.decodeCluster(await this.#connection.unary('/fanfare.v1.Cluster/GetCluster', request, call));
  }

  /**
   * Asks a broker to give its partitions to the others and to take no new ones, or revokes that. Resolves at
   * once: get() shows how far it is. NOT_FOUND: no living broker has that name. FAILED_PRECONDITION: it is
   * the last one that is not drained.
   */
  async drain(name: string, options: { readonly revoke?: boolean } & CallSettings = {}): Promise<void> {
    const { revoke = false, ...call } = options;
    resourceName('name', name);
    flag('revoke', revoke);
    const codec = await loadCodec();
    const request = codec.encodeDrainBroker(name, revoke);
    await this.#connection.unary('/fanfare.v1.Cluster/DrainBroker', request, call);
  }
}

function loadCodec() {
  return import('./cluster-codec.ts');
}
