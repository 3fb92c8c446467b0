// The lines that brokers of a cluster write when something is wrong, as operators read them. Tests wait for
// them, and services/CLUSTER.md lists them (cluster-redis.test.ts compares the two).
export const SAYS = {
  // Redis, with what to do.
  unreachable:
    'Redis cannot be reached: check that it runs and that the network and its TLS certificates are good; the broker reconnects by itself',
  slow: 'Redis does not answer in time: look for slow commands (SLOWLOG GET), swapping, a full disk or a saturated network',
  full: 'Redis is out of memory, so publishes are refused: raise maxmemory, shorten retention or delete topics; it goes on by itself',
  evicts:
    'the maxmemory-policy of Redis is no longer noeviction, so Redis may delete messages: set it back at once (CONFIG SET maxmemory-policy noeviction)',
  slotsDown:
    'part of the Redis Cluster is down: check CLUSTER INFO and bring the missing masters or their replicas back',
  worksAgain: 'Redis works again',
  anotherStore:
    'the store does not hold this cluster any more: it was emptied, or is another one. Bring its data back, or point the brokers at the right store; to begin anew with an empty one, stop all brokers and start one with --init-cluster',
  // Leases and claims.
  fenced: 'stopped serving until there is a lease again',
  heartbeatsAgain: 'the store answers heartbeats again',
  cutOff: 'cut off from the store: clients are sent to other brokers until it answers',
  takenIn: 'clients are taken in again',
  staleWrite:
    'the store refused a write of a former owner: nothing was written, another broker has the partition',
  // Logs.
  refusedAppend: 'the store refused an append: publishers are told to wait',
  unknownOutcome: 'the outcome of an append is unknown: asking the store',
  appendedAgain: 'the store had lost the end of the log: appended again from memory',
  lostTail:
    'the store lost messages that were acknowledged and that no broker holds any more, or another broker wrote in between: see the page for operators, "lost tail"',
  // Definitions.
  definedAgain: 'the store had lost topics or subscriptions: written again from memory',
  deletedAgain: 'the store had lost deletions of topics or subscriptions: deleted again',
  letGo:
    'what this broker knew under a name is not what the store has, and was not deleted as far as it knows: its data stays in the store',
  // Other brokers.
  linkClosed: 'a link to a broker closed',
  linked: 'linked to a broker',
  relayEnded: 'ended the link of a relay',
} as const;
