// Bugs in what the operator decides.
import { type PlantedBug, unit } from '../bug.ts';

const CORE = 'operator/core';

export const OPERATOR_BUGS: readonly PlantedBug[] = [
  {
    name: 'pods whose messages nobody could count are taken for done',
    file: `${CORE}/scale-down.ts`,
    find: 'const timedOut = observed.outstanding !== 0;',
    replace: 'const timedOut = Boolean(observed.outstanding);',
    noticed: unit('operator-scale-down'),
  },
  {
    name: 'pods that are going anyhow are counted among those that have to go',
    file: `${CORE}/scale-down.ts`,
    find: 'const living = pods.filter(({ ending }) => !ending);',
    replace: 'const living = [...pods];',
    noticed: unit('operator-scale-down'),
  },
  {
    name: 'an object that somebody else made is deleted with the resource',
    file: `${CORE}/plan-definition.ts`,
    find: "if (claim.kind === 'free' && applied?.incarnation !== found.incarnation) {",
    replace: "if (claim.kind === 'free' && applied?.incarnation === 'never') {",
    noticed: unit('operator-plan'),
  },
  {
    name: 'an unknown backlog counts as an empty one when something is deleted',
    file: `${CORE}/plan-definition.ts`,
    find: "'DeleteIfEmpty' && backlog !== 0",
    replace: "'DeleteIfEmpty' && backlog",
    noticed: unit('operator-plan'),
  },
  {
    name: 'the broker is written to before there is a finalizer',
    file: `${CORE}/plan-definition.ts`,
    find: "if (observed.finalizers && !hasFinalizer) return act({ kind: 'addFinalizer' });\n    return act({ kind: 'create'",
    replace: "return act({ kind: 'create'",
    noticed: unit('operator-plan'),
  },
  {
    name: 'without measurements replicas go down to the minimum',
    file: `${CORE}/autoscale/missing.ts`,
    find: 'fallback ?? current)',
    replace: 'fallback ?? spec.minReplicas)',
    noticed: unit('autoscale', 'when the load is unknown'),
  },
  {
    name: 'replicas go down as soon as less is needed',
    file: `${CORE}/autoscale/behavior.ts`,
    find: 'atMs > next.atMs - windowMs && replicas > next.replicas',
    replace: 'atMs > next.atMs && replicas > next.replicas',
    noticed: unit('autoscale-stabilize'),
  },
];
