// All scenarios, in the order of RULES.md.
import type { Scenario } from './scenario.ts';
import { connecting } from './scenarios/connecting.ts';
import { delivery } from './scenarios/delivery.ts';
import { ending } from './scenarios/ending.ts';
import { leases } from './scenarios/leases.ts';
import { order } from './scenarios/order.ts';
import { publishing } from './scenarios/publishing.ts';
import { restarts } from './scenarios/restarts.ts';

export const SCENARIOS: readonly Scenario[] = [
  ...publishing,
  ...delivery,
  ...order,
  ...leases,
  ...ending,
  ...restarts,
  ...connecting,
];
