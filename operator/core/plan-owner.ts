// Whose an object of the broker is. Whoever makes or adopts one leaves its mark in the object's labels, so
// that operators and clusters that know nothing of each other notice. Pure.
//
//   who else claims it                                      then
//   an older resource that we see                           theirs
//   a mark with our uid                                     ours
//   no mark; a mark of a resource of ours that is gone or   free: ours for the taking
//     was created anew; of a younger resource
//   a mark of another cluster, or of a namespace that       theirs, until somebody sets the annotation
//     this operator does not watch                          fanfare.dev/adopt
import type { Metadata } from '../api/v1alpha1/group.ts';

/** <cluster>/<namespace>/<uid>: at most 137 bytes. */
export const OWNER_LABEL = 'fanfare.dev/owner';
/** The resource's name, which may fill a label by itself. */
export const OWNER_NAME_LABEL = 'fanfare.dev/owner-name';
/** The labels of a mark, which a spec can't use (MAX_LABELS in api/v1alpha1/common-fields.ts). */
export const OWNER_LABELS = 2;

export interface Owner {
  /** The uid of the namespace kube-system. */
  readonly cluster: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export type Claim =
  | { readonly kind: 'ours' }
  | { readonly kind: 'free' }
  | { readonly kind: 'theirs'; readonly message: string };

export interface ClaimInputs {
  readonly self: Metadata;
  readonly cluster: string;
  /** Living resources of the same kind that name the same object, `self` left out. */
  readonly rivals: readonly Metadata[];
  /** The labels of the object in the broker; undefined: there is no object. */
  readonly labels: Readonly<Record<string, string>> | undefined;
  /** Undefined: there is no such resource; 'unseen': its namespace is not watched. */
  readonly resourceOf: (namespace: string, name: string) => Metadata | 'unseen' | undefined;
  readonly adopt: boolean;
}

export function ownerOf(cluster: string, { namespace, name, uid }: Metadata): Owner {
  return { cluster, namespace, name, uid };
}

export function ownerLabels({ cluster, namespace, name, uid }: Owner): Record<string, string> {
  return { [OWNER_LABEL]: `${cluster}/${namespace}/${uid}`, [OWNER_NAME_LABEL]: name };
}

export function withoutOwner(labels: Readonly<Record<string, string>>): Record<string, string> {
  const { [OWNER_LABEL]: _owner, [OWNER_NAME_LABEL]: _name, ...rest } = labels;
  return rest;
}

/**
 * The owner that the labels name. Undefined: they bear no mark. One that can't be read counts as a
 * stranger's.
 */
export function ownerIn(labels: Readonly<Record<string, string>>): Owner | undefined {
  const mark = labels[OWNER_LABEL];
  if (mark === undefined) return undefined;
  const [cluster = '', namespace = '', uid = ''] = mark.split('/');
  return { cluster, namespace, uid, name: labels[OWNER_NAME_LABEL] ?? '' };
}

export function claimOf(inputs: ClaimInputs): Claim {
  const { self, cluster, rivals, labels, resourceOf, adopt } = inputs;
  const eldest = [self, ...rivals].sort(byAge)[0]!;
  if (eldest.uid !== self.uid) {
    return theirs(`${eldest.namespace}/${eldest.name}, which is older, names the same object in the broker`);
  }
  const owner = labels && ownerIn(labels);
  if (owner === undefined) return { kind: 'free' };
  if (owner.uid === self.uid) return { kind: 'ours' };
  if (owner.cluster === cluster) {
    if (owner.namespace === self.namespace && owner.name === self.name) return { kind: 'free' };
    const holder = resourceOf(owner.namespace, owner.name);
    if (holder === undefined) return { kind: 'free' };
    if (holder !== 'unseen') {
      if (holder.uid !== owner.uid || byAge(self, holder) < 0) return { kind: 'free' };
      return theirs(`${owner.namespace}/${owner.name}, which is older, has it in the broker`);
    }
  }
  if (adopt) return { kind: 'free' };
  const where =
    owner.cluster === cluster ? 'a namespace that is not watched here' : `cluster ${owner.cluster}`;
  return theirs(
    `in the broker it belongs to ${owner.namespace}/${owner.name} of ${where}: choose another name, or take it over with the annotation fanfare.dev/adopt: "true"`,
  );
}

/** Orders the oldest first; of the same second, the smaller uid. */
function byAge(a: Metadata, b: Metadata): number {
  return (a.creationTimestamp ?? '').localeCompare(b.creationTimestamp ?? '') || a.uid.localeCompare(b.uid);
}

function theirs(message: string): Claim {
  return { kind: 'theirs', message };
}
