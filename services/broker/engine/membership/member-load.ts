// How much a broker has to do: partitions, consumers, and messages per second. For people (`fanfare
// cluster`).
import type { Clock } from '../../ports/clock.ts';
import type { MemberLoad } from '../../ports/membership-store.ts';
import type { Stats } from '../stats.ts';

/**
 * Returns what gives the load; its rates are those of the time since they were last taken, a second at least.
 */
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
