// What a broker has to do, as it tells the others and `fanfare cluster` shows it. Made by cluster-node.ts, and by main.ts for a
// broker without others.
import type { Clock } from '../../ports/clock.ts';
import type { MemberLoad } from '../../ports/membership-store.ts';
import type { Stats } from '../stats.ts';

/** What changed per second since it was last asked. */
export function memberLoad(
  stats: Pick<Stats, 'consumers' | 'publishedMessages' | 'deliveredMessages'>,
  owned: () => number,
  clock: Clock,
): () => MemberLoad {
  let atMs = clock.monotonicMs();
  let { publishedMessages, deliveredMessages } = stats;
  let rates = { publishedPerSecond: 0, deliveredPerSecond: 0 };
  return () => {
    const seconds = (clock.monotonicMs() - atMs) / 1000;
    // Heartbeats may come in quick succession: rates of a moment say nothing.
    if (seconds >= 1) {
      rates = {
        publishedPerSecond: (stats.publishedMessages - publishedMessages) / seconds,
        deliveredPerSecond: (stats.deliveredMessages - deliveredMessages) / seconds,
      };
      atMs += seconds * 1000;
      ({ publishedMessages, deliveredMessages } = stats);
    }
    return { partitions: owned(), consumers: stats.consumers, ...rates };
  };
}
