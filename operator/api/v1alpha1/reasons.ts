// Why a condition is what it is: the closed list, in alphabetical order within each part. People search for
// these words, so none is renamed.

/** Reasons of Ready, Synced and Paused. */
export const SYNC_REASONS = [
  /** The broker can't give what the spec asks for, such as a durability. The message has its words. */
  'BrokerRefused',
  'BrokerUnreachable',
  /** The broker refused the operator's certificate, or the Secret has none that can be used. */
  'CertificateInvalid',
  /** spec.connectionRef names no Fanfare of this namespace. */
  'ConnectionNotFound',
  'Deleting',
  /** Waiting for the backlog to be worked off: deletionPolicy is DeleteIfEmpty. */
  'DeletionBlocked',
  /** The broker's object differs in something that can't be changed. */
  'ImmutableFieldChanged',
  /**
   * The broker answered with an error that has no reason of its own, such as INTERNAL. The message has its
   * words.
   */
  'InternalError',
  'InvalidSpec',
  /** An older resource has the same object in the broker. */
  'NameConflict',
  /** managementPolicy is ObserveOnly and the broker has no such object. */
  'NotFound',
  /** managementPolicy is ObserveOnly: nothing is changed, what the broker has is shown. */
  'Observed',
  'Paused',
  'PermissionDenied',
  /** Not finished yet: something changed meanwhile, and it is tried again. */
  'Progressing',
  'Reconciled',
  'TopicNotFound',
  'TopicNotReady',
] as const;

/** Reasons of Scaling, ConsumersAvailable and Degraded, which also have Reconciled and PermissionDenied. */
export const SCALING_REASONS = [
  'AtMaxReplicas',
  'ConsumersReady',
  'CoolingDown',
  'DownstreamSaturated',
  /** Consumers held leases for longer than drain.timeoutSeconds; replicas were lowered all the same. */
  'DrainTimedOut',
  /** Consumers that will go still hold leases. */
  'Draining',
  /** dryRun: decided and explained, but not carried out. */
  'DryRun',
  'MetricsUnavailable',
  'NoConsumers',
  /** Another manager changes the target's replicas too. */
  'ReplicasContended',
  'ScaleTargetNotFound',
  'ScaleTargetOwnedByHPA',
  /** Another Subscription scales the same target. */
  'ScaleTargetOwnedBySubscription',
  /** strategy is KEDA or None: somebody else sets spec.consumers.replicas. */
  'ScaledExternally',
  'ScaledToZero',
  /** ordering is on and maxReplicas exceeds what the partitions can give work to (256 replicas each). */
  'TooFewPartitions',
] as const;

export const REASONS = [...SYNC_REASONS, ...SCALING_REASONS] as const;
export type Reason = (typeof REASONS)[number];
