// A scenario: a rule for clients, in a sentence for the author of a client, and a play that shows whether it
// is kept.
import type { Feature } from './protocol.ts';
import type { Scene } from './scene.ts';

export interface Scenario {
  /** Short and unique: names the scenario in RULES.md, in tests and in the table of planted faults. */
  readonly name: string;
  readonly rule: string;
  /**
   * What the driver must be able to do; none: basic, a generated client with a few lines around it can do it.
   */
  readonly needs: readonly Feature[];
  /** The scenario computes, so that nothing that has to be in time should be played beside it. */
  readonly isBusy?: boolean;
  /** Rejects, with what was seen, if the rule is not kept. */
  readonly play: (scene: Scene) => Promise<void>;
}
