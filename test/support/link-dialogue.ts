// Writes down what brokers say to each other over links, in the order in which it is said, so that a changed
// protocol reads as a changed dialogue. Heartbeats are left out; bytes are told by their text.
import { formatPartitionId } from '../../services/broker/core/partition.ts';
import type { PeerAnswer, PeerConnector, PeerRequest } from '../../services/broker/ports/peer.ts';
import type { AcceptLink } from './memory-peers.ts';

type Said = PeerRequest | PeerAnswer;

export class LinkDialogue {
  readonly #lines: string[];

  constructor(title: string) {
    this.#lines = [title];
  }

  get text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  /** What happens beside the links. */
  tell(what: string): void {
    this.#lines.push('', `# ${what}`);
  }

  /** A connector whose requests are written down. `addresses`: by address, who listens there. */
  heard(relay: string, connector: PeerConnector): PeerConnector {
    return {
      connect: (address, owner, events) => {
        const link = connector.connect(address, owner, {
          answer: (answer) => events.answer(answer),
          writableAgain: () => events.writableAgain(),
          closed: (reason) => {
            this.#lines.push(`${relay} ✕ ${owner}  ${reason}`);
            events.closed(reason);
          },
        });
        return {
          send: (request) => {
            this.#say(`${relay} → ${owner}`, request);
            return link.send(request);
          },
          close: () => link.close(),
        };
      },
    };
  }

  /** As heard, for what the owner answers. */
  answering(owner: string, accept: AcceptLink): AcceptLink {
    return (link, relay) =>
      accept(
        {
          send: (answer) => {
            this.#say(`${relay} ← ${owner}`, answer);
            return link.send(answer);
          },
          close: () => link.close(),
        },
        relay,
      );
  }

  #say(who: string, said: Said): void {
    const isHeartbeat =
      (said.kind === 'backlog' && said.parent === '') || (said.kind === 'backlogs' && said.call === 0);
    if (isHeartbeat) return;
    const { kind, ...details } = said;
    const words = Object.entries(details)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name} ${word(name, value)}`);
    this.#lines.push(`${who}  ${kind}: ${words.join(', ')}`);
  }
}

function word(name: string, value: unknown): string {
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (name === 'publishTimeMs') return '…';
  if (typeof value !== 'object' || value === null) return String(value);
  if ('logEpoch' in value && 'partition' in value && !('kind' in value))
    return formatPartitionId(value as { logEpoch: number; partition: number });
  if (name === 'operations' || name === 'bounced' || name === 'runs')
    return `[${(value as readonly object[]).map(operation).join(', ')}]`;
  return JSON.stringify(value);
}

function operation(each: object): string {
  const { kind, partition, first, last, leases } = each as Record<string, unknown>;
  const range = first === last ? String(first) : `${first}..${last}`;
  const place = partition === undefined ? range : `${partition}/${range}`;
  return [kind, place, leases].filter((part) => part !== undefined).join(' ');
}
