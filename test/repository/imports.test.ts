// Machine check 1 of the repository: imports point only in the allowed directions (core ← ports ← engine ←
// adapters ← main), and each outside library stays in its adapter.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');

interface Rule {
  readonly part: string;
  readonly may: readonly string[];
  readonly packages: readonly string[];
}

/** Files that every part of the engine may use. */
const ENGINE_BASE = ['admission.ts', 'context.ts', 'stats.ts', 'steady-clock.ts'];
const LINKS = ['heartbeat.ts', 'peer-host.ts', 'relayed-publish.ts', 'share-session.ts', 'when-owned.ts'].map(
  (file) => `links/${file}`,
);

/**
 * A room of the engine may use itself, ENGINE_BASE, the ports, the core, and the rooms and files named here.
 * The empty room is the files beside the rooms.
 */
function engine(room: string, others: readonly string[]): Rule {
  const folder = 'services/broker/engine/';
  const own = room === '' ? readdirSync(join(root, folder)).filter((name) => name.endsWith('.ts')) : [room];
  const inEngine = [...own, ...ENGINE_BASE, ...others].map((name) => `${folder}${name}`);
  const may = [...inEngine, 'services/broker/ports/', 'services/broker/core/', 'services/broker/limits.ts'];
  return { part: `${folder}${room}`, may, packages: [] };
}

/**
 * A part of the tree by path prefix, and what it may import: prefixes, and packages or node:*. The first rule
 * that fits applies, so longer prefixes come before shorter ones.
 */
const RULES: readonly Rule[] = [
  { part: 'services/broker/core/', may: ['services/broker/core/'], packages: [] },
  {
    part: 'services/broker/ports/',
    may: ['services/broker/ports/', 'services/broker/core/'],
    packages: [],
  },
  // Rooms of the engine: log ← delivery, and beside them definitions; all three ← the files beside the rooms
  // (topics, partitions, broker). Membership uses only partition-host.ts; links use log, delivery and
  // membership. The relay's side of links and the owner's meet only in what lies beside both of them.
  engine('log/', []),
  engine('delivery/', ['log/']),
  engine('definitions/', []),
  engine('membership/', ['partition-host.ts']),
  engine('links/relay/', ['log/', 'delivery/', 'membership/', 'remote.ts', ...LINKS]),
  engine('links/owner/', ['log/', 'delivery/', 'membership/', 'remote.ts', ...LINKS]),
  engine('links/', ['log/', 'delivery/', 'membership/']),
  // cluster-member.ts composes all of them.
  engine('cluster-member.ts', [
    'log/',
    'delivery/',
    'definitions/',
    'membership/',
    'links/',
    'broker.ts',
    'partition-host.ts',
  ]),
  engine('', ['log/', 'delivery/', 'definitions/']),
  ...['grpc', 'http', 'embedded', 'redis', 'node', 'otel'].map((adapter) => ({
    part: `services/broker/adapters/${adapter}/`,
    may: [
      `services/broker/adapters/${adapter}/`,
      'services/broker/engine/',
      'services/broker/ports/',
      'services/broker/core/',
      'services/broker/limits.ts',
      ...(adapter === 'grpc' ? ['services/gen/', 'services/certs/revocation-list.ts'] : []),
    ],
    packages: {
      grpc: ['node:*', '@grpc/grpc-js', '@bufbuild/protobuf'],
      http: ['node:*'],
      embedded: ['node:*', 'lmdb', 'zod'],
      redis: ['node:*', 'ioredis'],
      node: ['node:*'],
      otel: ['node:*', '@opentelemetry/*'],
    }[adapter]!,
  })),
  {
    part: 'services/broker/',
    may: ['services/broker/', 'services/certs/', 'services/node/'],
    packages: ['*'],
  },
  { part: 'services/node/', may: ['services/node/'], packages: ['node:*'] },
  {
    part: 'services/certs/',
    may: ['services/certs/'],
    packages: ['node:*', '@peculiar/x509', 'reflect-metadata'],
  },
  {
    part: 'services/client/',
    may: ['services/client/', 'services/gen/'],
    packages: ['node:*', '@grpc/grpc-js', '@bufbuild/protobuf', '@opentelemetry/api'],
  },
  {
    part: 'services/cli/',
    may: [
      'services/node/',
      'services/cli/',
      'services/client/',
      'services/certs/',
      'services/broker/main.ts',
      'services/broker/config-options.ts',
      'services/broker/core/printable.ts',
    ],
    packages: ['node:*', 'commander'],
  },
  { part: 'operator/api/', may: ['operator/api/'], packages: ['node:*'] },
  { part: 'operator/core/', may: ['operator/core/', 'operator/api/'], packages: [] },
  { part: 'operator/kube/', may: ['operator/kube/'], packages: ['node:*', '@kubernetes/client-node'] },
  {
    part: 'operator/keda/',
    may: ['operator/keda/', 'operator/core/', 'services/gen/'],
    packages: ['node:*', '@grpc/grpc-js', '@bufbuild/protobuf'],
  },
  {
    part: 'operator/broker/',
    may: ['operator/broker/', 'operator/core/', 'operator/api/', 'operator/kube/', 'services/client/'],
    packages: ['node:*'],
  },
  {
    part: 'operator/controllers/',
    may: [
      'operator/controllers/',
      'operator/broker/',
      'operator/core/',
      'operator/api/',
      'operator/kube/',
      'operator/keda/',
    ],
    packages: [],
  },
  { part: 'operator/', may: ['operator/'], packages: ['node:*', 'pino'] },
];

test('imports point in the allowed directions', () => {
  const offences: string[] = [];
  let checked = 0;
  for (const file of [...sources('services'), ...sources('operator')]) {
    const rule = RULES.find(({ part }) => file.startsWith(part));
    if (rule === undefined) {
      if (!file.startsWith('services/gen/')) offences.push(`${file}: no rule covers it`);
      continue;
    }
    for (const target of importsOf(readFileSync(join(root, file), 'utf8'))) {
      checked += 1;
      const allowed = target.startsWith('.')
        ? rule.may.some((prefix) => normalize(join(dirname(file), target)).startsWith(prefix))
        : rule.packages.some((name) =>
            name.endsWith('*')
              ? target.startsWith(name.slice(0, -1))
              : target === name || target.startsWith(`${name}/`),
          );
      if (!allowed) offences.push(`${file} imports ${target}`);
    }
  }
  expect(checked).toBeGreaterThan(100);
  expect(offences).toEqual([]);
});

test('no file of the operator imports itself through others', () => {
  const files = [...sources('operator')];
  const imports = new Map(
    files.map((file) => [
      file,
      importsOf(readFileSync(join(root, file), 'utf8'))
        .filter((target) => target.startsWith('.'))
        .map((target) => normalize(join(dirname(file), target))),
    ]),
  );
  expect(files.length).toBeGreaterThan(80);
  expect(files.map((file) => circle(file, imports)).filter((found) => found !== undefined)).toEqual([]);
});

test('the check for circles sees one', () => {
  const imports = new Map([
    ['a', ['b']],
    ['b', ['c']],
    ['c', ['b', 'd']],
  ]);
  expect(circle('a', imports)).toBeUndefined();
  expect(circle('b', imports)).toBe('b → c → b');
});

test('the check sees an offence', () => {
  expect(importsOf("import { x } from '../engine/broker.ts';\nconst y = await import('lmdb');")).toEqual([
    '../engine/broker.ts',
    'lmdb',
  ]);
});

/** The shortest way of a file back to itself. Undefined: there is none. */
function circle(file: string, imports: ReadonlyMap<string, readonly string[]>): string | undefined {
  const ways: string[][] = [[file]];
  const seen = new Set<string>();
  for (const way of ways) {
    for (const next of imports.get(way.at(-1)!) ?? []) {
      if (next === file) return [...way, next].join(' → ');
      if (!seen.has(next)) ways.push([...way, next]);
      seen.add(next);
    }
  }
  return undefined;
}

function* sources(folder: string): Iterable<string> {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* sources(path);
    else if (path.endsWith('.ts')) yield path;
  }
}

function importsOf(source: string): string[] {
  return [...source.matchAll(/(?:from\s+|import\s*\(\s*|import\s+)'([^']+)'/g)].map(([, target]) => target!);
}
