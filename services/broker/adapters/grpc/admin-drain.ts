// Admin.DrainConsumers' messages ↔ core/draining.ts. What a request must not say is INVALID_ARGUMENT here.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  DrainConsumersRequest,
  DrainConsumersResponseSchema,
} from '../../../gen/fanfare/v1/admin_pb.ts';
import type { DrainReport, DrainRequest } from '../../core/draining.ts';
import { BrokerError } from '../../core/errors.ts';
import { quote } from '../../core/names.ts';
import {
  MAX_CLIENT_ID_BYTES,
  MAX_DRAIN_NAMES_PER_SUBSCRIPTION,
  MAX_DRAIN_TTL_MS,
  MIN_DRAIN_TTL_MS,
} from '../../limits.ts';
import { durationMs } from './admin-messages.ts';
import { canonicalAddress } from './peer-address.ts';

/** INVALID_ARGUMENT with the field and the limit. Whether the subscription exists is not checked here. */
export function drainRequest(request: DrainConsumersRequest): DrainRequest {
  const { subscription, clientIds, peerAddresses } = request;
  const names = clientIds.length + peerAddresses.length;
  if (names > MAX_DRAIN_NAMES_PER_SUBSCRIPTION) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `client_ids and peer_addresses have ${names} names: at most ${MAX_DRAIN_NAMES_PER_SUBSCRIPTION} together`,
    );
  }
  for (const [at, id] of clientIds.entries()) {
    const bytes = Buffer.byteLength(id);
    if (bytes >= 1 && bytes <= MAX_CLIENT_ID_BYTES) continue;
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `client_ids[${at}] has ${bytes} bytes: must have 1 to ${MAX_CLIENT_ID_BYTES}`,
    );
  }
  const ttlMs = request.ttl === undefined ? 0 : durationMs(request.ttl, 'ttl');
  if (ttlMs !== 0 && (ttlMs < MIN_DRAIN_TTL_MS || ttlMs > MAX_DRAIN_TTL_MS)) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `ttl is ${ttlMs} ms: must be ${MIN_DRAIN_TTL_MS} to ${MAX_DRAIN_TTL_MS} ms, or 0 to end it`,
    );
  }
  return {
    subscription,
    clientIds: [...new Set(clientIds)],
    peerAddresses: [...new Set(peerAddresses.map(checkedAddress))],
    ttlMs,
  };
}

export function drainResponse(report: DrainReport): MessageInitShape<typeof DrainConsumersResponseSchema> {
  return {
    consumers: report.consumers.map(({ clientId, peerAddress, streams, outstandingMessages }) => ({
      clientId,
      peerAddress,
      streams,
      outstandingMessages: BigInt(outstandingMessages),
    })),
    streams: report.streams,
    outstandingMessages: BigInt(report.outstandingMessages),
  };
}

function checkedAddress(text: string, at: number): string {
  const address = canonicalAddress(text);
  if (address !== undefined) return address;
  const message = `peer_addresses[${at}] is ${quote(text)}: must be an IP address without port, such as 10.0.0.7 or fd00::7`;
  throw new BrokerError('INVALID_ARGUMENT', message);
}
