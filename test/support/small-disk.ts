// A file system of a few MiB of its own, to be filled. Mounting one needs the right to (root on Linux, as in
// CI); without it the caller gets undefined.
import { spawnSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface SmallDisk {
  readonly dir: string;
  /** Writes a file that leaves only so many bytes free, or none if somebody else takes them meanwhile. */
  fill(leaveBytes: number): Promise<void>;
  /** Removes the file that fill() wrote. */
  free(): Promise<void>;
  unmount(): Promise<void>;
}

export async function mountSmallDisk(mebibytes: number): Promise<SmallDisk | undefined> {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-small-disk-'));
  const size = `size=${mebibytes}m,mode=0700`;
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', dir]).status !== 0) {
    await rm(dir, { recursive: true });
    return undefined;
  }
  const ballast = join(dir, 'ballast');
  return {
    dir,
    async fill(leaveBytes) {
      const { bavail, bsize } = statfsSync(dir);
      try {
        await writeFile(ballast, Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes), 1));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      }
    },
    free: () => rm(ballast, { force: true }),
    async unmount() {
      spawnSync('umount', [dir]);
      await rm(dir, { recursive: true });
    },
  };
}
