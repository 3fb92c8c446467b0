// A copy of the repository in which bugs are planted, one at a time. The checkout itself is never changed:
// node_modules is the only thing that the two share.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import type { PlantedBug } from './bug.ts';

export const ROOT = join(import.meta.dirname, '../..');

const LEFT_OUT = new Set(['node_modules', '.git']);

/** The text with the bug in it. Undefined: what it replaces is not there, or not only once. */
export function withBug(text: string, { find, replace }: PlantedBug): string | undefined {
  const parts = text.split(find);
  return parts.length === 2 ? parts.join(replace) : undefined;
}

/** The bugs that can't be planted any more, each with how often the text that it replaces was found. */
export function unplantable(bugs: readonly PlantedBug[]): string[] {
  return bugs.flatMap((bug) => {
    const text = existsSync(join(ROOT, bug.file)) ? read(ROOT, bug.file) : '';
    const found = text.split(bug.find).length - 1;
    return found === 1 ? [] : [`${bug.file}: "${bug.name}": found ${found} times: ${bug.find}`];
  });
}

export class Tree {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
    mkdirSync(root, { recursive: true });
    for (const name of readdirSync(ROOT))
      if (!LEFT_OUT.has(name))
        cpSync(join(ROOT, name), join(root, name), {
          recursive: true,
          filter: (path) => !LEFT_OUT.has(basename(path)),
        });
    symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  }

  /** Plants the bug while `work` runs. */
  async with<T>(bug: PlantedBug | undefined, work: () => Promise<T>): Promise<T> {
    if (bug === undefined) return work();
    const sound = read(this.root, bug.file);
    const planted = withBug(sound, bug);
    if (planted === undefined) throw new Error(`"${bug.name}" can't be planted in ${bug.file}`);
    writeFileSync(join(this.root, bug.file), planted);
    try {
      return await work();
    } finally {
      writeFileSync(join(this.root, bug.file), sound);
    }
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

function read(root: string, file: string): string {
  return readFileSync(join(root, file), 'utf8');
}
