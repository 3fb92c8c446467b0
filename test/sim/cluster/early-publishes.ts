// What comes over one link for topics with the durability `memory`, at the owner's end: who has had which
// message, and what it has answered.
import { fromBinary } from '@bufbuild/protobuf';
import type { PartitionId } from '../../../services/broker/core/partition.ts';
import type { PeerAnswer, PeerRequest } from '../../../services/broker/ports/peer.ts';
import { PublishRequestSchema } from '../../../services/gen/fanfare/v1/publisher_pb.ts';
import { identityOf } from '../received.ts';
import type { ClusterChecker } from './cluster-checker.ts';
import type { Member } from './member.ts';

export class EarlyPublishes {
  readonly #checker: ClusterChecker;
  readonly #member: Member;
  readonly #calls = new Map<
    number,
    { readonly partition: PartitionId; readonly identities: readonly string[] }
  >();

  constructor(checker: ClusterChecker, member: Member) {
    this.#checker = checker;
    this.#member = member;
  }

  asked({ call, topic, partition, messages }: PeerRequest & { kind: 'publish' }): void {
    if (this.#member.definitions.topic(topic)?.durability !== 'memory') return;
    const { sent } = this.#checker;
    const identities = fromBinary(PublishRequestSchema, messages).messages.map(({ data }) =>
      identityOf(data),
    );
    for (const identity of identities) sent.had(this.#member.id, sent.get(identity)!);
    this.#calls.set(call, { partition, identities });
  }

  answered({ call, firstOffset }: PeerAnswer & { kind: 'published' }): void {
    const asked = this.#calls.get(call);
    this.#calls.delete(call);
    if (asked !== undefined)
      this.#checker.answered(this.#member.id, asked.partition, firstOffset, asked.identities);
  }
}
