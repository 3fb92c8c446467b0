// The CustomResourceDefinitions of fanfare.dev, made from v1alpha1/. `npm run generate` writes them: for
// kubectl to operator/manifests/, for Helm to charts/fanfare/templates/crds/. test/unit/crd.test.ts fails
// when the files are stale.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { JsonSchema, Rule, Schema } from './schema.ts';
import { FANFARES, fanfareSpec, fanfareStatus } from './v1alpha1/fanfare.ts';
import { GROUP, type KindNames, VERSION } from './v1alpha1/group.ts';
import {
  SUBSCRIPTIONS,
  subscriptionRules,
  subscriptionSpec,
  subscriptionStatus,
} from './v1alpha1/subscription.ts';
import { TOPICS, topicRules, topicSpec, topicStatus } from './v1alpha1/topic.ts';
import { toYaml } from './yaml.ts';

interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'number' | 'date';
  readonly jsonPath: string;
  readonly description?: string;
  /** 1: shown only with -o wide. */
  readonly priority?: 1;
}

interface Definition {
  readonly names: KindNames;
  readonly description: string;
  readonly spec: Schema<unknown>;
  readonly status: Schema<unknown>;
  readonly rules?: readonly Rule[];
  readonly columns: readonly Column[];
  readonly scale?: Readonly<Record<string, string>>;
  /** Fields for `kubectl get --field-selector`: Kubernetes 1.31 and later. */
  readonly selectableFields?: readonly string[];
}

const AGE: Column = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };
const SELECTABLE_SINCE = '1.31.0-0';

const DEFINITIONS: readonly Definition[] = [
  {
    names: FANFARES,
    description: 'Fanfare is a connection to a broker. Topics and Subscriptions of its namespace use it.',
    spec: fanfareSpec,
    status: fanfareStatus,
    columns: [
      ...readyColumns(),
      { name: 'Address', type: 'string', jsonPath: '.spec.address' },
      { name: 'Project', type: 'string', jsonPath: '.status.project' },
      AGE,
    ],
  },
  {
    names: TOPICS,
    description: 'Topic is a topic in a broker: a durable log that any number of subscriptions read.',
    spec: topicSpec,
    status: topicStatus,
    rules: topicRules,
    columns: [
      ...readyColumns(),
      { name: 'Partitions', type: 'integer', jsonPath: '.spec.partitions' },
      { name: 'Retention', type: 'integer', jsonPath: '.spec.retentionSeconds', description: 'In seconds.' },
      { name: 'Backlog', type: 'integer', jsonPath: '.status.backlog', priority: 1 },
      { name: 'Policy', type: 'string', jsonPath: '.spec.deletionPolicy', priority: 1 },
      AGE,
    ],
  },
  {
    names: SUBSCRIPTIONS,
    description:
      'Subscription is a durable reader of a topic in a broker, and how many consumers share its messages.',
    spec: subscriptionSpec,
    status: subscriptionStatus,
    rules: subscriptionRules,
    columns: [
      ...readyColumns(),
      { name: 'Topic', type: 'string', jsonPath: '.spec.topicRef.name' },
      { name: 'Backlog', type: 'integer', jsonPath: '.status.backlog' },
      {
        name: 'Oldest',
        type: 'date',
        jsonPath: '.status.oldestUnackedTime',
        description: 'Age of the oldest message that is not acknowledged.',
      },
      {
        name: 'Rate',
        type: 'number',
        jsonPath: '.status.arrivalRate',
        description: 'Messages published per second.',
        priority: 1,
      },
      { name: 'Replicas', type: 'integer', jsonPath: '.status.replicas' },
      { name: 'Desired', type: 'integer', jsonPath: '.status.desiredReplicas' },
      { name: 'Max', type: 'integer', jsonPath: '.spec.consumers.maxReplicas' },
      {
        name: 'Scaling',
        type: 'string',
        jsonPath: '.status.conditions[?(@.type=="Scaling")].reason',
        description: 'Why there are as many consumers as there are.',
      },
      AGE,
    ],
    scale: {
      specReplicasPath: '.spec.consumers.replicas',
      statusReplicasPath: '.status.replicas',
      labelSelectorPath: '.status.selector',
    },
    selectableFields: ['.spec.topicRef.name'],
  },
];

/** The definitions as objects, for an API server. */
export function customResourceDefinitions() {
  return DEFINITIONS.map((definition) => ({
    apiVersion: 'apiextensions.k8s.io/v1' as const,
    kind: 'CustomResourceDefinition' as const,
    metadata: { name: crdName(definition) },
    spec: crdSpec(definition, selectable(definition)),
  }));
}

/** Path within the repository → content, of every generated file. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const definition of DEFINITIONS) {
    const name = `${GROUP}_${definition.names.plural}.yaml`;
    files.set(`operator/manifests/${name}`, manifest(definition));
    files.set(`charts/fanfare/templates/crds/${name}`, chartTemplate(definition));
  }
  return files;
}

function crdName({ names }: Definition): string {
  return `${names.plural}.${names.group}`;
}

function crdSpec(definition: Definition, more: object) {
  const { names, columns, scale } = definition;
  return {
    group: names.group,
    scope: 'Namespaced',
    names: {
      kind: names.kind,
      listKind: `${names.kind}List`,
      plural: names.plural,
      singular: names.singular,
      shortNames: names.shortNames,
      categories: ['fanfare'],
    },
    // `versions` comes last: the chart's template adds to the one version.
    versions: [
      {
        name: VERSION,
        served: true,
        storage: true,
        subresources: { status: {}, ...(scale !== undefined && { scale }) },
        additionalPrinterColumns: columns,
        schema: { openAPIV3Schema: rootSchema(definition) },
        ...more,
      },
    ],
  };
}

function rootSchema({ description, spec, status, rules }: Definition) {
  const properties: Record<string, JsonSchema> = {
    apiVersion: { type: 'string', description: 'fanfare.dev/v1alpha1.' },
    kind: { type: 'string', description: 'The kind of this resource.' },
    metadata: { type: 'object' },
    spec: spec.json,
    status: status.json,
  };
  return {
    description,
    type: 'object',
    required: ['spec'],
    properties,
    ...(rules !== undefined && { 'x-kubernetes-validations': rules }),
  };
}

function selectable({ selectableFields }: Definition): object {
  if (selectableFields === undefined) return {};
  return { selectableFields: selectableFields.map((jsonPath) => ({ jsonPath })) };
}

function readyColumns(): Column[] {
  return ['status', 'reason'].map((field) => ({
    name: field === 'status' ? 'Ready' : 'Reason',
    type: 'string',
    jsonPath: `.status.conditions[?(@.type=="Ready")].${field}`,
  }));
}

const GENERATED = '# Generated by operator/api/crd.ts from operator/api/v1alpha1: do not edit.';

function manifest(definition: Definition): string {
  const head = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: crdName(definition) },
    spec: crdSpec(definition, selectable(definition)),
  };
  const needs =
    definition.selectableFields === undefined
      ? ''
      : '# Needs Kubernetes 1.31; before, take selectableFields out.\n';
  return `${GENERATED}\n${needs}${toYaml(head)}\n`;
}

/**
 * The chart's file. It is in templates/ and not in crds/, which Helm never upgrades; kept on uninstall if
 * crds.keep says so, since every resource goes with its CRD.
 */
function chartTemplate(definition: Definition): string {
  const parts = [
    '{{- if .Values.crds.install }}',
    GENERATED,
    'apiVersion: apiextensions.k8s.io/v1',
    'kind: CustomResourceDefinition',
    'metadata:',
    `  name: ${crdName(definition)}`,
    '  labels:',
    '    {{- include "fanfare.labels" . | nindent 4 }}',
    '  {{- if .Values.crds.keep }}',
    '  annotations:',
    '    helm.sh/resource-policy: keep',
    '  {{- end }}',
    'spec:',
    toYaml(crdSpec(definition, {}), 2),
  ];
  if (definition.selectableFields !== undefined) {
    parts.push(
      `      {{- if semverCompare ">=${SELECTABLE_SINCE}" .Capabilities.KubeVersion.Version }}`,
      toYaml(selectable(definition), 6),
      '      {{- end }}',
    );
  }
  return `${parts.join('\n')}\n{{- end }}\n`;
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '../..');
  for (const [path, content] of generatedFiles()) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
}
