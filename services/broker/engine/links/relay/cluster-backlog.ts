// How far behind subscriptions are in the whole cluster: what this broker owns and what the others say.
import type { BacklogReport, PartitionQuestion } from '../../../core/backlog-report.ts';
import type { BacklogReporter } from '../../delivery/backlog-types.ts';
import type { Remote } from '../../remote.ts';
import { mergeReports } from './relayed-backlog.ts';

export class ClusterBacklog implements BacklogReporter {
  readonly #local: BacklogReporter;
  readonly #remote: Pick<Remote, 'backlog' | 'onFirstMessage'>;

  constructor(local: BacklogReporter, remote: Pick<Remote, 'backlog' | 'onFirstMessage'>) {
    this.#local = local;
    this.#remote = remote;
  }

  async report(
    parent: string,
    subscriptions: readonly string[],
    question?: PartitionQuestion,
  ): Promise<BacklogReport[]> {
    // The others are asked first: that waits until what is to be owned here is.
    const remote = await this.#remote.backlog(parent, subscriptions, question);
    return mergeReports([await this.#local.report(parent, subscriptions, question), remote]);
  }

  onFirstMessage(listener: (subscription: string) => void): () => void {
    const unlisten = [this.#local.onFirstMessage(listener), this.#remote.onFirstMessage(listener)];
    return () => {
      for (const each of unlisten) each();
    };
  }
}
