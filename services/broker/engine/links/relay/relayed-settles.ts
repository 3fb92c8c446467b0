// Settles without a consumer (Acknowledge, ModifyAckDeadline) for partitions that are owned elsewhere:
// brought to their owners, again and again as partitions move. An operation on a partition that does not
// exist is ignored, as its owner ignores one on a message that is not outstanding.
import { BrokerError } from '../../../core/errors.ts';
import type { SettledSubscription, SettleOperation } from '../../../core/settle-request.ts';
import { type Clock, sleep } from '../../../ports/clock.ts';
import type { Route, Routes } from '../../membership/routes.ts';
import type { PeerHost } from '../peer-host.ts';
import type { RelayLinks } from './relay-links.ts';

export interface RemoteSettleOptions {
  readonly peers: RelayLinks;
  readonly routes: Routes;
  readonly clock: Clock;
  readonly host: Pick<PeerHost, 'settleOwned' | 'partitionsToSettle'>;
  /** Whether this broker stops: then it is of no use to try again. */
  readonly over: () => boolean;
}

const GIVE_UP_MS = 10_000;
const FIRST_BACKOFF_MS = 10;
const MAX_BACKOFF_MS = 250;

/**
 * Resolves when all operations have been performed, acks durably. Rejects with UNAVAILABLE: not in time, some
 * may have been performed; NOT_FOUND.
 */
export async function settleRemotely(
  options: RemoteSettleOptions,
  subscription: SettledSubscription,
  operations: readonly SettleOperation[],
): Promise<void> {
  const { clock } = options;
  const giveUpMs = clock.monotonicMs() + GIVE_UP_MS;
  let left = operations;
  for (let backoffMs = FIRST_BACKOFF_MS; ; backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS)) {
    const rest = [...byOwner(options.routes, left)].map(([route, group]) =>
      settleAt(options, route, subscription, group, giveUpMs),
    );
    left = await existing(options, subscription, (await Promise.all(rest)).flat());
    if (left.length === 0) return;
    if (options.over() || clock.monotonicMs() >= giveUpMs) {
      throw new BrokerError(
        'UNAVAILABLE',
        `a partition of ${subscription.name} has no owner just now: settle the messages again`,
      );
    }
    await sleep(clock, backoffMs);
  }
}

/** The operations whose partition exists, as far as anybody knows; none if the subscription is gone. */
async function existing(
  { host }: RemoteSettleOptions,
  subscription: SettledSubscription,
  operations: readonly SettleOperation[],
): Promise<readonly SettleOperation[]> {
  if (operations.length === 0) return operations;
  const least = operations.reduce((most, { partition }) => Math.max(most, partition + 1), 0);
  try {
    const partitions = await host.partitionsToSettle(subscription, least);
    return operations.filter(({ partition }) => partition < partitions);
  } catch (error) {
    // The store does not say: they may exist.
    if (error instanceof BrokerError && error.code === 'UNAVAILABLE') return operations;
    throw error;
  }
}

/** Returns what could not be settled there. */
async function settleAt(
  { peers, routes, clock, host }: RemoteSettleOptions,
  route: Route | undefined,
  subscription: SettledSubscription,
  operations: readonly SettleOperation[],
  giveUpMs: number,
): Promise<readonly SettleOperation[]> {
  if (route === undefined) return operations;
  try {
    if (route.memberId === routes.selfId) return await host.settleOwned(subscription, operations);
    const { link, release } = await peers.reach(route, Math.max(0, giveUpMs - clock.monotonicMs()));
    try {
      return await link.settle(subscription, operations);
    } finally {
      release();
    }
  } catch (error) {
    // To settle twice does no harm, so an unknown outcome is one to try again.
    if (error instanceof BrokerError && error.code === 'UNAVAILABLE') return operations;
    throw error;
  }
}

function byOwner(
  routes: Routes,
  operations: readonly SettleOperation[],
): Map<Route | undefined, SettleOperation[]> {
  const groups = new Map<string | undefined, { route: Route | undefined; group: SettleOperation[] }>();
  for (const operation of operations) {
    const route = routes.targetOf(operation);
    const found = groups.get(route?.memberId);
    if (found === undefined) groups.set(route?.memberId, { route, group: [operation] });
    else found.group.push(operation);
  }
  return new Map([...groups.values()].map(({ route, group }) => [route, group]));
}
