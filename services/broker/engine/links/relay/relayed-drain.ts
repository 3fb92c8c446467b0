// The drain of consumers whose streams end at other brokers.
//
// Every living broker is told, owner of a partition or not: clients connect to any. A part of the answer is
// never given out as the whole, or pods would be stopped that still hold messages.
import { type DrainReport, type DrainRequest, mergeDrainReports } from '../../../core/draining.ts';
import type { Clock } from '../../../ports/clock.ts';
import type { Routes } from '../../membership/routes.ts';
import type { RelayLinks } from './relay-links.ts';
import { within } from './relayed-backlog.ts';

const REACH_WITHIN_MS = 2_000;
/** A broker may ask others itself before it knows. */
const ANSWER_WITHIN_MS = 6_000;

export interface RemoteDrainOptions {
  readonly peers: RelayLinks;
  readonly routes: Routes;
  readonly clock: Clock;
}

/** UNAVAILABLE: a broker can't be reached or does not answer; the others have been told. */
export async function drainRemotely(
  { peers, routes, clock }: RemoteDrainOptions,
  request: DrainRequest,
): Promise<DrainReport> {
  const others = routes.members().filter(({ memberId }) => memberId !== routes.selfId);
  const answers = others.map(async (route) => {
    const { link, release } = await peers.reach(route, REACH_WITHIN_MS);
    try {
      return await within(link.drain(request), ANSWER_WITHIN_MS, clock, route);
    } finally {
      release();
    }
  });
  // All brokers have been told before the first failure is reported: it must not keep others from being told.
  const settled = await Promise.allSettled(answers);
  const reports: DrainReport[] = [];
  for (const outcome of settled) {
    if (outcome.status === 'rejected') throw outcome.reason;
    reports.push(outcome.value);
  }
  return mergeDrainReports(reports);
}
