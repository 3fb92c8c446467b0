// The drain of consumers in the whole cluster: those whose streams end here and those of the other brokers.
// All are told even if one fails.
import { type DrainReport, type DrainRequest, mergeDrainReports } from '../../../core/draining.ts';
import type { ConsumerDrain } from '../../delivery/draining-consumers.ts';
import type { Remote } from '../../remote.ts';

export class ClusterDrain implements ConsumerDrain {
  readonly #local: ConsumerDrain;
  readonly #remote: Pick<Remote, 'drain'>;

  constructor(local: ConsumerDrain, remote: Pick<Remote, 'drain'>) {
    this.#local = local;
    this.#remote = remote;
  }

  async drain(request: DrainRequest): Promise<DrainReport> {
    const [local, remote] = await Promise.allSettled([
      this.#local.drain(request),
      this.#remote.drain(request),
    ]);
    if (local.status === 'rejected') throw local.reason;
    if (remote.status === 'rejected') throw remote.reason;
    return mergeDrainReports([local.value, remote.value]);
  }
}
