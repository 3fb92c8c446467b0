// A publish on its way from a relay to the owner, as the owner's broker holds it.
import type { PendingPublish } from '../log/publish-group.ts';

/**
 * A publish that came over a link. It goes no further than to the owner here, or two brokers could wait for
 * each other.
 */
export interface RelayedPublish extends PendingPublish {
  /** The link has closed meanwhile: it is dropped. */
  readonly gone: boolean;
  /** It was not stored, and the partition is another broker's now: the relay brings it there. */
  moved(): void;
}
